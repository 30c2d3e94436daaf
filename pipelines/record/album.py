"""What every simulator does alike: collecting pictures and masks step by step, and declaring the cameras they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.record.layout import episode_key
from pipelines.record.rollout import DEPTH, SEGMENTATION, U8, Masks, Rollout
from pipelines.record.spec import RecordSpec
from schemas.contract import Camera, CameraRole


@dataclass(frozen=True, slots=True)
class Album:
    """The pictures of one episode, in the order they are taken."""

    spec: RecordSpec
    _pictures: dict[str, list[U8]] = field(default_factory=dict[str, list[U8]])
    _masks: dict[str, list[tuple[int, npt.NDArray[Any]]]] = field(default_factory=dict[str, list[tuple[int, npt.NDArray[Any]]]])

    def wants_masks(self, step: int) -> bool:
        """Tell whether segmentation is due at `step`."""
        every = self.spec.mask_every
        return every > 0 and step % every == 0

    def keep(self, camera: str, picture: U8) -> None:
        """Keep what `camera` sees at the next step, uint8[H, W, 3]."""
        self._pictures.setdefault(camera, []).append(picture)

    def keep_masks(self, camera: str, step: int, masks: U8) -> None:
        """Keep the segmentation of `camera` at `step`, uint8[H, W]."""
        self._masks.setdefault(SEGMENTATION + camera, []).append((step, masks))

    def wants_depth(self, step: int) -> bool:
        """Tell whether depth is due at `step`."""
        every = self.spec.depth_every
        return every > 0 and step % every == 0

    def keep_depth(self, camera: str, step: int, depth: npt.NDArray[np.uint16]) -> None:
        """Keep the distances `camera` sees at `step`, uint16[H, W] millimetres."""
        self._masks.setdefault(DEPTH + camera, []).append((step, depth))

    def frames(self) -> dict[str, U8]:
        """Return per camera uint8[T, H, W, 3]."""
        return {camera: np.stack(pictures) for camera, pictures in self._pictures.items()}

    def masks(self) -> dict[str, Masks]:
        """Return the masks per segmentation camera, and the distances per depth camera."""
        return {
            camera: Masks(np.array([step for step, _ in taken], np.int32), np.stack([image for _, image in taken]))
            for camera, taken in self._masks.items()
        }


ROLES: dict[str, CameraRole] = {"front": "exterior", "wrist": "wrist", "ego": "ego"}


def declare_cameras(spec: RecordSpec, geometry: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Camera, ...]:
    """Return the contract's cameras: each recorded one, followed by its privileged segmentation and depth if there are any.

    Args:
        spec: which cameras, their size and rates.
        geometry: per camera, `intrinsics` and `extrinsics` where they are known.
    """
    cameras: list[Camera] = []
    for name in spec.cameras:
        common: dict[str, Any] = {"width": spec.size, "height": spec.size, **(geometry or {}).get(name, {})}
        cameras.append(Camera(name, role=ROLES[name], fps=float(spec.hz), **common))
        if spec.mask_every:
            rate = spec.hz / spec.mask_every
            cameras.append(
                Camera(SEGMENTATION + name, role="segmentation", fps=rate, colour_order="gray", privileged=True, **common)
            )
        if spec.depth_every:
            rate = spec.hz / spec.depth_every
            known: dict[str, Any] = {**common, "depth_unit_m": 0.001}
            cameras.append(Camera(DEPTH + name, role="depth", fps=rate, colour_order="gray", privileged=True, **known))
    return tuple(cameras)


def counterfactual(
    rollout: Rollout, factor: str, album: Album, labels: Mapping[str, Any], segments: Mapping[str, str]
) -> Rollout:
    """Return `rollout` with other pictures: what happened and its split group stay, one factor's label and what is seen change.

    Args:
        rollout: what was played.
        factor: the one that changed.
        album: the pictures rendered again.
        labels: of all factors, as they are now.
        segments: the names in the masks, as they are now.
    """
    changes = {
        "factors": dict(labels), "counterfactual_of": episode_key(rollout.task, rollout.seed), "counterfactual_factor": factor,
        "segments": dict(segments),
    }  # fmt: skip
    return replace(rollout, frames=album.frames(), masks=album.masks(), attributes=rollout.attributes | changes, changed=factor)
