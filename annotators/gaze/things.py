"""Which thing lies where somebody looks: masks of a simulator, or of a detector of the user's, and angles between gaze and masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annotators.base import Batch
from annotators.clips import Clip, Look
from annotators.motion.things import object_places, object_streams
from annotators.traces.masks import Seen, name_masks
from annotators.traces.views import open_view, view_streams
from schemas.contract import Camera, Contract
from schemas.errors import AnnotatorError
from schemas.registry import load_function
from transforms.gaze.geometry import angle_deg
from transforms.grid import BOOL
from transforms.projection import unproject
from transforms.rotation import F64

MASK = "segmentation."
STEP = 0.01  # of the picture's width, over which degrees per width are measured
Masks = Sequence[tuple[str, BOOL]]
Detector = Callable[[Any], Sequence[Masks]]  # uint8[N, H, W, 3] to, per picture, (name, bool[H, W]) of every thing


def mask_camera(contract: Contract, camera: Camera) -> str | None:
    """Return the segmentation camera that belongs to a camera; None where there is none."""
    name = MASK + camera.name
    return name if any(c.name == name and c.role == "segmentation" for c in contract.cameras) else None


def thing_looks(contract: Contract, camera: Camera, detector: str, hz: float) -> tuple[Look, ...]:
    """Return the pictures that things are found in: the detector's where one is named, else masks."""
    if detector:
        return (Look(camera.name, None, hz),)
    masks = mask_camera(contract, camera)
    return () if masks is None else (Look(masks, None, hz),)


def thing_streams(contract: Contract, camera: Camera, detector: str) -> tuple[str, ...]:
    """Return the signals that name masks: poses of objects, and where the camera is."""
    if detector or mask_camera(contract, camera) is None:
        return ()
    return (*object_streams(contract).values(), *view_streams(contract, camera))


@dataclass(frozen=True, slots=True)
class Things:
    """What one episode's pictures show.

    Attributes:
        camera: whose lens measures angles.
        clip: masks, or pictures for the detector.
        names: which mask value is which thing; of a detector, none.
        detect: the detector; None for masks.
        field_deg: degrees across the picture where nobody states the lens.
        seen: what was found in pictures so far.
    """

    camera: Camera
    clip: Clip
    names: dict[int, str]
    detect: Detector | None
    field_deg: float
    seen: dict[int, Masks] = field(default_factory=dict[int, Masks])

    def at(self, t_ns: int) -> Masks:
        """Return the names and masks of the picture shown at an instant."""
        picture = max(int(np.searchsorted(self.clip.t_ns, t_ns, side="right")) - 1, 0)
        if picture not in self.seen:
            self.seen[picture] = self._found(picture)
        return self.seen[picture]

    def nearest(self, t_ns: int, xy: F64) -> tuple[str, BOOL, float] | None:
        """Return the thing nearest to a point: its name, its mask, degrees between them (0 inside); the smaller of equals; None if there is none."""
        best: tuple[float, int, str, BOOL] | None = None
        per_width = self.degrees_per_width(xy)
        for name, mask in self.at(t_ns):
            rows, columns = np.nonzero(mask)
            if not len(rows):
                continue
            height, width = mask.shape
            across = np.maximum(np.abs((columns + 0.5) / width - xy[0]) - 0.5 / width, 0)
            down = np.maximum(np.abs((rows + 0.5) / height - xy[1]) - 0.5 / height, 0) * height / width
            away = float(np.hypot(across, down).min()) * per_width
            if best is None or (away, len(rows)) < best[:2]:
                best = (away, len(rows), name, mask)
        return None if best is None else (best[2], best[3], best[0])

    def degrees_per_width(self, xy: F64) -> float:
        """Return how many degrees a picture's width would have if it were everywhere as it is around a point."""
        camera = self.camera
        if camera.intrinsics is None or not camera.width or not camera.height:
            return self.field_deg
        size = np.array([[camera.width], [camera.height]], np.float64)
        aside = np.array([[-STEP / 2, STEP / 2], [0.0, 0.0]])
        ends = (xy[:, None] + aside) * size - 0.5
        rays, found = unproject(camera, ends)
        return float(angle_deg(rays[:, :1], rays[:, 1:])[0]) / STEP if found.all() else self.field_deg

    def _found(self, picture: int) -> Masks:
        if self.detect is None:
            shown = self.clip.pictures[picture]
            return [(name, np.asarray(shown == value, np.bool_)) for value, name in self.names.items()]
        told = list(self.detect(self.clip.pictures[picture : picture + 1]))
        if len(told) != 1:
            raise AnnotatorError(f"the detector returned {len(told)} lists for one picture; it must return one list per picture")
        masks = [(str(name), np.asarray(mask, np.bool_)) for name, mask in told[0]]
        if wrong := [m.shape for _, m in masks if m.shape != self.clip.pictures.shape[1:3]]:
            raise AnnotatorError(f"the detector returned a mask of {wrong[0]} for a picture of {self.clip.pictures.shape[1:3]}")
        return masks


def things_of(batch: Batch, episode: int, camera: Camera, detector: str, field_deg: float) -> Things | str:
    """Open the things of an episode, or say why there are none: `no_masks`, `no_picture`."""
    masks = mask_camera(batch.contract, camera)
    name = camera.name if detector else masks
    if name is None or name not in batch.clips:
        return "no_masks"
    clip = batch.clips[name][episode]
    if not len(clip):
        return "no_picture"
    if detector:
        return Things(camera, clip, {}, load_function(detector, "detector"), field_deg)
    return Things(camera, clip, _names(batch, episode, camera, clip), None, field_deg)


def _names(batch: Batch, episode: int, camera: Camera, clip: Clip) -> dict[int, str]:
    """Name mask values after the poses of objects; where none are recorded, every value is a thing called by its number."""
    rows = slice(int(batch.starts[episode]), int(batch.starts[episode + 1]))
    places = {n: p[:, rows] for n, p in object_places(batch).items() if np.isfinite(p[:, rows]).all()}
    view = open_view(batch, episode, camera, np.empty((3, 0)), "calibrated") if places else "no_objects"
    if not isinstance(view, str):
        return name_masks(Seen(rows, view, clip, places))
    values = np.unique(clip.pictures)
    return {int(v): f"thing {int(v)}" for v in values if v}
