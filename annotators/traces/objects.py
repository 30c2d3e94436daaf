"""Where things are in a picture: boxes and points of objects from segmentation or their poses, and where the hand will touch and let go.

All of these share one row: a span, a camera, a kind, and coordinates in [0, 1] of the picture's width and height. Names come from the
poses a simulator recorded: the mask value most often found under an object's projected centre is that object.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Look, Needs
from annotators.evaluation import QualityReport
from annotators.motion.things import object_places, object_streams
from annotators.spans import constant, nothing, span_table
from annotators.traces.hand import hand_source, read_hand
from annotators.traces.masks import Seen, name_masks, picture_size
from annotators.traces.views import View, choose_camera, open_view, view_streams
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Camera, Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import I64, SECOND
from transforms.rotation import F64

MASK = "segmentation."


@dataclass(frozen=True, slots=True)
class ObjectPointsConfig:
    """What to say, and how often.

    Attributes:
        camera: which one; None: the first exterior one that something is known about.
        every_s: seconds from one look to the next.
        least_px: masks with fewer pixels have no box.
        tip_m: the tip in the hand's own axes, for contact and placement.
    """

    camera: str | None = None
    every_s: float = 0.5
    least_px: int = 9
    tip_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not self.every_s > 0 or self.least_px < 1:
            raise UsageError(f"every_s={self.every_s} and least_px={self.least_px} must be above 0")


@dataclass(frozen=True, slots=True)
class Said:
    """One row."""

    first: int
    stop: int
    kind: str = ""
    label: str = ""
    coords: tuple[float, ...] = ()
    source: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectPoints:
    """Annotates looks with boxes and points; see the module's text."""

    config: ObjectPointsConfig = field(default_factory=ObjectPointsConfig)

    name: ClassVar[str] = "object_points"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "frame"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("kind", NAME),  # box, point, contact (the next closing of the gripper), placement (the next opening)
            pa.field("label", NAME),  # the object in words; empty: the hand
            pa.field("coords", pa.list_(pa.float32())),  # x y, or x0 y0 x1 y1; of width and height, clipped to [0, 1]
            pa.field("source", NAME),  # segmentation, pose, hand
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `ObjectPointsConfig`."""
        return cls(parse_settings(ObjectPointsConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version and configuration."""
        return fingerprint(self.name, self.version, self.settings())

    def usable(self, contract: Contract) -> Camera | str:
        """Return the camera, or the reason why nothing can be said: `no_objects`, and those of `choose_camera`."""
        if not object_streams(contract):
            return "no_objects"
        return choose_camera(contract, self.config.camera, "calibrated")

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name calibration, masks, signals and, for contact and placement, the columns of the hand."""
        camera = self.usable(contract)
        if isinstance(camera, str):
            return ()
        source = hand_source(contract)
        masks = tuple(f"mask:{look.camera}" for look in self.needs(contract).looks)
        signals = tuple(f"stream:{s}" for s in self.needs(contract).streams)
        return (*(source.columns if source else ()), f"K:{camera.name}", *masks, *signals)

    def needs(self, contract: Contract) -> Needs:
        """Ask for masks of the camera, poses of objects, and where the camera is."""
        camera = self.usable(contract)
        if isinstance(camera, str):
            return Needs()
        looks = tuple(Look(c.name) for c in contract.cameras if c.name == MASK + camera.name and c.role == "segmentation")
        return Needs(looks, (*object_streams(contract).values(), *view_streams(contract, camera)))

    def run(self, batch: Batch) -> pa.Table:
        """Say where things are every `every_s` seconds."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        camera = self.usable(batch.contract)
        if isinstance(camera, str):
            return nothing(self, batch, camera)
        rows: list[Said] = []
        for look in self.looks(batch, camera):
            rows += [look] if isinstance(look, Said) else self._episode(batch, look)
        own: dict[str, Any] = {
            "kind": _words([r.kind for r in rows]),
            "label": _words([r.label for r in rows]),
            "coords": pa.array([None if r.reason else list(r.coords) for r in rows], pa.list_(pa.float32())),
            "source": _words([r.source for r in rows]),
        }
        first, stop = (np.array([getattr(r, n) for r in rows], np.int64) for n in ("first", "stop"))
        return span_table(self, batch, first, stop, [r.reason for r in rows], own, camera=constant(camera.name, len(rows)))

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure points against masks and contacts against boxes; see `annotators.traces.object_evaluation`."""
        from annotators.traces.object_evaluation import evaluate_objects

        return evaluate_objects(self.seen(heldout), heldout, self.config.tip_m)

    def seen(self, batch: Batch) -> list[Seen] | str:
        """Open the episodes that can be looked at; why none can, where that is so."""
        camera = self.usable(batch.contract)
        return camera if isinstance(camera, str) else [x for x in self.looks(batch, camera) if isinstance(x, Seen)]

    def looks(self, batch: Batch, camera: Camera) -> list[Seen | Said]:
        """Open every episode; one that cannot be looked at is a row that says why."""
        places, found = object_places(batch), list[Seen | Said]()
        for at in range(len(batch.episodes)):
            rows = slice(int(batch.starts[at]), int(batch.starts[at + 1]))
            here = {name: p[:, rows] for name, p in places.items() if np.isfinite(p[:, rows]).all()}
            view = open_view(batch, at, camera, np.empty((3, 0)), "calibrated") if here else "no_objects"
            clip = batch.clips[MASK + camera.name][at] if MASK + camera.name in batch.clips else None
            if isinstance(view, str):
                found.append(Said(rows.start, rows.stop, reason=view))
            else:
                found.append(Seen(rows, view, clip if clip is not None and len(clip) else None, here))
        return found

    def anchors(self, batch: Batch, look: Seen) -> I64:
        """Return the steps of an episode at which it is looked, int64[n]: where there are masks, the first step with one in each cell."""
        steps = np.arange(look.rows.stop - look.rows.start)
        if look.clip is not None:
            steps = np.flatnonzero(np.diff(look.clip.seen, prepend=-1) > 0)
        seconds = (batch.t_ns[look.rows.start + steps] - batch.t_ns[look.rows.start]) * (1 / SECOND)
        cell = np.floor(seconds / self.config.every_s + 1e-6)
        return steps[np.concatenate([[True], np.diff(cell) > 0])]

    def _episode(self, batch: Batch, look: Seen) -> list[Said]:
        anchors = self.anchors(batch, look)
        names = name_masks(look)
        touch = self._touches(batch, look)
        said: list[Said] = []
        for a, b in zip(anchors.tolist(), [*anchors[1:].tolist(), look.rows.stop - look.rows.start], strict=True):
            first = look.rows.start + a
            said += [Said(first, look.rows.start + b, *thing) for thing in self._things(look, names, a)]
            said += [Said(first, look.rows.start + min(b, until), *where) for until, where in _next_touch(touch, look.view, a)]
        return said or [Said(look.rows.start, look.rows.stop, reason="nothing_in_view")]

    def _things(self, look: Seen, names: dict[int, str], step: int) -> list[tuple[str, str, tuple[float, ...], str]]:
        size, found = picture_size(look.view), list[tuple[str, str, tuple[float, ...], str]]()
        picture = None if look.clip is None or look.clip.seen[step] < 0 else look.clip.pictures[look.clip.seen[step]]
        if picture is not None and names:
            tall, wide = picture.shape
            for value, label in names.items():
                v, u = np.nonzero(picture == value)
                if len(v) >= self.config.least_px:
                    box = (u.min() / wide, v.min() / tall, (u.max() + 1) / wide, (v.max() + 1) / tall)
                    found.append(("box", label, tuple(float(x) for x in box), "segmentation"))
                    found.append(
                        ("point", label, (float((u.mean() + 0.5) / wide), float((v.mean() + 0.5) / tall)), "segmentation")
                    )
            return found
        for label, place in look.places.items():
            pixel, ahead = look.view.track(place[:, step : step + 1], step)
            share = (pixel[:, 0] + 0.5) / size
            if ahead[0] and bool(((share >= 0) & (share <= 1)).all()):
                found.append(("point", label, (float(share[0]), float(share[1])), "pose"))
        return found

    def _touches(self, batch: Batch, look: Seen) -> list[tuple[int, str, F64]]:
        """Return when the gripper closes and opens, which of the two it is, and where the tip is then, float64[3, 1]."""
        source = hand_source(batch.contract)
        if source is None:
            return []
        part = Batch(batch.contract, batch.steps.slice(look.rows.start, look.rows.stop - look.rows.start))
        hand = read_hand(part, source, self.config.tip_m)
        places = np.flatnonzero(hand.event & hand.finite).tolist()
        return [(p, "contact" if hand.event[p] < 0 else "placement", hand.tip[:, p : p + 1]) for p in places]


def _next_touch(
    touch: list[tuple[int, str, F64]], view: View, step: int
) -> list[tuple[int, tuple[str, str, tuple[float, ...], str]]]:
    """Return where the hand will next close and open, as the picture of `step` shows it, and the step until which that holds."""
    found: list[tuple[int, tuple[str, str, tuple[float, ...], str]]] = []
    for kind in ("contact", "placement"):
        soon = next(((p, t) for p, k, t in touch if k == kind and p > step), None)
        if soon is None:
            continue
        pixel, ahead = view.track(soon[1], step)
        if ahead[0]:
            share = np.clip((pixel[:, 0] + 0.5) / picture_size(view), 0, 1)
            found.append((soon[0], (kind, "", (float(share[0]), float(share[1])), "hand")))
    return found


def _words(values: list[str]) -> pa.DictionaryArray:
    return pa.array([v or None for v in values], pa.string()).dictionary_encode()
