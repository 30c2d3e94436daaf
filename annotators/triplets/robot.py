"""Where the robot is in a picture: by a simulator's segmentation, else as a capsule around its projected hand, else only whether it is back.

Segmentation names no robot. Its values are told apart by when they move: what comes to new places while every thing with a known pose
stands still is the robot, and so is what looks different then without going anywhere, as a shoulder that turns.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotators.base import Batch
from annotators.clips import Clip
from annotators.motion.read import read_slots
from annotators.motion.source import MotionSource, find_source
from annotators.traces.hand import hand_source, read_hand
from annotators.traces.objects import MASK
from annotators.traces.views import View, open_view
from annotators.triplets.change import distance, lab, widened
from annotators.triplets.config import TripletsConfig
from annotators.triplets.pair import masks_at
from annotators.triplets.things import Poses
from schemas.contract import Camera
from transforms.grid import BOOL
from transforms.rotation import F64

STILL_M, STILL_RAD = 0.002, 0.02  # a thing that moves less than this from one mask to the next stands still
LOOKS, LOOKS_SHARE, NEXT_TO = 12.0, 0.05, 3  # Lab, share of its area, pixels around what is known
NEW_SHARE, NEW_PX = 0.3, 8  # of its area, and at least so many pixels: what the robot newly covers while all things stand still


@dataclass(frozen=True, slots=True)
class Robot:
    """One episode's robot.

    Attributes:
        masks: with `values`, its segmentation; None where there is none.
        values: of the robot in there.
        view: of a calibrated camera, with `tip`; None: not known.
        tip: float64[3, T] metres; None where no hand is measured.
        joints: float64[D, T] radians, of robots that tell no hand.
        opening: float64[T] of the gripper, 1 open; None where there is none.
        person: whether it is no robot but a person, whose hands nobody measures.
    """

    masks: Clip | None = None
    values: tuple[int, ...] = ()
    view: View | None = None
    tip: F64 | None = None
    joints: F64 | None = None
    opening: F64 | None = None
    person: bool = False

    def at(self, step: int, config: TripletsConfig) -> BOOL | None:
        """Return where it is in the picture of a step, bool[H, W] at any size; None where that is not known."""
        if self.masks is not None and self.values:
            return self._segmented(step)
        if self.view is not None and self.tip is not None and np.isfinite(self.tip[:, step]).all():
            return arm_capsule(self.view, self.tip[:, step], step, config)
        return None

    def is_back(self, a: int, b: int, config: TripletsConfig) -> bool:
        """Tell whether it is at step `b` where it was at `a`: not of a robot that tells nothing; a person is left to the other filters."""
        if self.tip is not None:
            return bool(np.linalg.norm(self.tip[:, b] - self.tip[:, a]) <= config.home_m)
        if self.joints is not None:
            return bool(np.abs(self.joints[:, b] - self.joints[:, a]).max() <= config.home_rad)
        return self.person

    def opened(self, a: int, b: int) -> float | None:
        """Return how much its gripper opened from step `a` to `b`."""
        return None if self.opening is None else float(self.opening[b] - self.opening[a])

    def _segmented(self, step: int) -> BOOL:
        clip = self.masks
        assert clip is not None
        after = int(np.clip(np.searchsorted(clip.step, step), 0, len(clip) - 1))
        before = max(after - 1, 0) if clip.step[after] > step else after
        return np.isin(clip.pictures[before], self.values) | np.isin(clip.pictures[after], self.values)


def find_robots(batch: Batch, camera: Camera, poses: list[Poses], config: TripletsConfig) -> list[Robot]:
    """Return what is known of the robot in every episode of a batch, as seen by `camera`."""
    source, hand = find_source(batch.contract, "proprio"), hand_source(batch.contract)
    limbs = read_hand(batch, hand, (0.0, 0.0, 0.0)) if hand is not None else None
    joints = _joints(batch, source) if limbs is None and source is not None else None
    found: list[Robot] = []
    for at in range(len(batch.episodes)):
        rows = slice(int(batch.starts[at]), int(batch.starts[at + 1]))
        known: dict[str, Any] = {"person": batch.contract.kind == "human"}
        if limbs is not None:
            known["tip"], known["opening"] = limbs.tip[:, rows], None if limbs.opening is None else limbs.opening[rows]
            view = open_view(batch, at, camera, np.empty((3, 0)), "calibrated") if camera.width and camera.height else ""
            known["view"] = view if isinstance(view, View) else None
        elif joints is not None:
            known["joints"] = joints[:, rows]
        clips = batch.clips.get(MASK + camera.name) if config.masks else None
        if clips is not None and len(clips[at]) and poses[at].place:
            seen = batch.clips[camera.name][at] if camera.name in batch.clips else None
            known["masks"], known["values"] = clips[at], robot_values(clips[at], poses[at], seen)
        found.append(Robot(**known))
    return found


def robot_values(clip: Clip, poses: Poses, pictures: Clip | None = None) -> tuple[int, ...]:
    """Return the values of a segmentation that are the robot; `pictures` are of the same camera and episode, where there are any."""
    rests = [
        n for n in range(1, len(clip)) if poses.still(int(clip.step[n - 1]), int(clip.step[n]), STILL_M, STILL_RAD)
    ]  # fmt: skip
    values = _comers(clip, set(rests))
    return values if pictures is None or not len(pictures) else tuple(sorted({*values, *_turners(clip, rests, pictures, values)}))


def _comers(clip: Clip, rests: set[int]) -> tuple[int, ...]:
    """Return the values that come to new places while things rest."""
    seen: dict[int, BOOL] = {}
    gained, area = defaultdict[int, int](int), defaultdict[int, list[int]](list)
    for n, picture in enumerate(clip.pictures):
        for value in np.unique(picture[picture > 0]).tolist():
            here = picture == value
            area[value].append(int(here.sum()))
            before = seen.get(value)
            if before is not None and n in rests:
                gained[value] += int((here & ~before).sum())
            seen[value] = here if before is None else before | here
    return tuple(v for v in sorted(gained) if gained[v] >= max(NEW_SHARE * float(np.median(area[v])), NEW_PX))


def _turners(clip: Clip, rests: Sequence[int], pictures: Clip, known: tuple[int, ...]) -> set[int]:
    """Return the values that change their looks where they stay while things rest, away from what is known to be the robot."""
    found: set[int] = set()
    for n in rests:
        shown = [pictures.seen[int(clip.step[k])] for k in (n - 1, n)]
        if min(shown) < 0 or shown[0] == shown[1]:
            continue
        first, second = (lab(pictures.pictures[k]) for k in shown)
        stays = clip.pictures[n - 1] == clip.pictures[n]
        robot = widened(np.isin(clip.pictures[n - 1], known) | np.isin(clip.pictures[n], known), NEXT_TO)
        free = masks_at(stays & ~robot, first.shape[:2])
        labels = _resized(clip.pictures[n], first.shape[:2])
        changed = free & (distance(first, second) > LOOKS**2)
        whole, odd = np.bincount(labels[free], minlength=1), np.bincount(labels[changed], minlength=1)
        odd = np.pad(odd, (0, len(whole) - len(odd)))
        found |= {int(v) for v in np.flatnonzero(odd >= np.maximum(LOOKS_SHARE * whole, NEW_PX)) if v > 0}
    return found


def _resized(labels: Any, size: tuple[int, ...]) -> Any:
    import cv2

    return labels if labels.shape == size else cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)


def arm_capsule(view: View, tip: F64, step: int, config: TripletsConfig) -> BOOL:
    """Return the picture of a capsule from the hand upwards, bool[H, W] at the contract's size; nothing where it is behind the camera."""
    import cv2

    width, height = view.camera.width, view.camera.height
    image = np.zeros((height, width), np.uint8)
    pose = view.pose(step)
    assert pose is not None
    points = np.stack([tip, tip + np.array([0.0, 0.0, config.reach_m]), tip + config.arm_m * pose[:3, 0]], 1)
    pixels, ahead = view.track(points, step)
    if ahead.all() and np.abs(pixels).max() < 1e5:
        radius = max(round(float(np.hypot(*(pixels[:, 2] - pixels[:, 0])))), 1)
        hand, wrist = (tuple(np.round(pixels[:, k]).astype(int).tolist()) for k in (0, 1))
        cv2.line(image, hand, wrist, 1, 2 * radius)
        cv2.circle(image, hand, radius, 1, -1)
    return image > 0


def _joints(batch: Batch, source: MotionSource) -> F64 | None:
    if source.joint_slot is None:
        return None
    values, finite, _ = read_slots(batch, source)
    return np.where(finite, values[source.joint_slot], np.nan)
