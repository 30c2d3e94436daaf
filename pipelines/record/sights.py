"""Where every picture of an episode was taken from, and where in it the hand is: the simulator's own account of its cameras.

Taken from the renderer's frustum, not from the formulas behind the contract's calibration, so that one can be held against the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.record.rollout import F64, I64, Samples
from schemas.contract import Stream

VIEW, HAND = "camera_view.", "hand_pixel."
LENS_NAMES = ("fx", "fy", "cx", "cy")


@dataclass(frozen=True, slots=True)
class Sight:
    """One picture: `lens` fx, fy, cx, cy in pixels; `pose` T_world_camera float64[4, 4]; `pixel` of the point asked for, NaN behind."""

    lens: F64
    pose: F64
    pixel: F64


@dataclass(frozen=True, slots=True)
class Sights:
    """The sights of one episode, per camera in the order of its pictures."""

    _taken: dict[str, list[Sight]] = field(default_factory=dict[str, list[Sight]])

    def keep(self, camera: str, sight: Sight) -> None:
        """Keep where `camera` stands at the next step."""
        self._taken.setdefault(camera, []).append(sight)

    def samples(self, times: I64, to_base: Callable[[F64], F64]) -> tuple[Samples, ...]:
        """Return the streams of every camera; a camera that never moves has one sample of its view.

        Args:
            times: int64[T] of the pictures.
            to_base: takes world poses float64[n, 7] (xyz, quaternion wxyz) into the contract's frame.
        """
        found: list[Samples] = []
        for camera, taken in self._taken.items():
            poses = to_base(np.stack([_seven(s.pose) for s in taken]))
            views = np.concatenate([np.stack([s.lens for s in taken]), poses], axis=1)
            still = bool((np.ptp(views, axis=0) < 1e-9).all())
            found.append(Samples(VIEW + camera, times[:1] if still else times, views[:1] if still else views))
            found.append(Samples(HAND + camera, times, np.stack([s.pixel for s in taken])))
        return tuple(found)


def sight_streams(cameras: Sequence[str], pose_names: Sequence[str], frame: str) -> tuple[Stream, ...]:
    """Return what a contract says about them."""
    views = [Stream(VIEW + c, (*LENS_NAMES, *pose_names), "px, m", frame, privileged=True) for c in cameras]
    hands = [Stream(HAND + c, ("u", "v"), "px", c, privileged=True) for c in cameras]
    return tuple(s for pair in zip(views, hands, strict=True) for s in pair)


def is_sight(name: str) -> bool:
    """Tell whether a stream is one of these."""
    return name.startswith((VIEW, HAND))


def _seven(pose: F64) -> F64:
    from transforms.rotation import from_matrix

    return np.concatenate([pose[:3, 3], from_matrix(pose[:3, :3, None])[:, 0]])
