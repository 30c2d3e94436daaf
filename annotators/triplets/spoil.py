"""Pairs spoilt on purpose: the camera moved, nothing happened, something else happened too, other words. Filters must refuse them."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.triplets.config import SIDE
from annotators.triplets.pair import Evidence, Pair, at_working_size
from transforms.goals import drawn_unit
from transforms.rotation import F64

U8 = npt.NDArray[np.uint8]
PAD = 8  # pixels cut off on every side, so that a shift shows nothing invented
SHIFTS = (0.0, 0.5, 1.0, 2.0, 4.0)
BLOT, CLEAR = 22, 12  # pixels a side, and around
OTHER = (128, 64, 200)  # what its levels are raised by


def moved_camera(pair: Pair, dx: float, dy: float) -> Pair:
    """Return the pair as if the camera had moved by so many working pixels before the target was taken."""
    robot = None
    if pair.robot is not None:
        robot = (_inner(pair.robot[0]) > 0, _inner(pair.robot[1]) > 0)
    source, before = (None if p is None else _inner(p) for p in (pair.source, pair.before))
    target, after = (None if p is None else _inner(p, dx, dy) for p in (pair.target, pair.after))
    assert source is not None and target is not None  # noqa: PT018 - one statement for the type checker
    return replace(pair, source=source, target=target, before=before, after=after, robot=robot)


def _inner(image: npt.NDArray[Any], dx: float = 0.0, dy: float = 0.0) -> U8:
    """Return an image scaled to a longer side of `SIDE` and a margin, moved, and cut to `SIDE`."""
    import cv2

    plain = image.dtype == np.bool_
    height, width = image.shape[:2]
    scale = (SIDE + 2 * PAD) / max(height, width)
    size = (round(width * scale), round(height * scale))
    how = cv2.INTER_NEAREST if plain else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = np.asarray(cv2.resize(image.astype(np.uint8), size, interpolation=how), np.uint8)
    return shifted(large, dx, dy)[PAD:-PAD, PAD:-PAD]


def nothing_happened(pair: Pair) -> Pair:
    """Return the pair with its source as the target."""
    robot = None if pair.robot is None else (pair.robot[0], pair.robot[0])
    return replace(pair, target=pair.source, after=pair.before, robot=robot)


def something_else_too(pair: Pair, *key: int | str) -> Pair | None:
    """Return the pair with a second change: a blot in other colours on the target, clear of the first change and the robot.

    None where there is no room for one.
    """
    e = Evidence(pair)
    taken, target = e.change | e.robot, at_working_size(pair.target).copy()
    height, width = target.shape[:2]
    for attempt in range(50):
        x, y = (int(drawn_unit("blot", axis, attempt, *key) * (n - BLOT)) for axis, n in (("x", width), ("y", height)))
        if not taken[max(y - CLEAR, 0) : y + BLOT + CLEAR, max(x - CLEAR, 0) : x + BLOT + CLEAR].any():
            patch = target[y : y + BLOT, x : x + BLOT].astype(np.int16)
            target[y : y + BLOT, x : x + BLOT] = ((patch + np.array(OTHER, np.int16)) % 256).astype(np.uint8)
            return replace(pair, source=at_working_size(pair.source), target=target, after=None)
    return None


def backwards(pair: Pair) -> Pair:
    """Return the pair read the other way round, without its words."""
    robot = None if pair.robot is None else pair.robot[::-1]
    opened = None if pair.opened is None else -pair.opened
    return replace(
        pair, source=pair.target, target=pair.source, before=pair.after, after=pair.before, robot=robot, opened=opened, prompt=""
    )  # fmt: skip


def shifted(picture: U8, dx: float, dy: float) -> U8:
    """Return a picture moved by parts of pixels to the right and down; its edges are repeated."""
    import cv2

    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (picture.shape[1], picture.shape[0])
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def camera_errors(pair: Pair, *key: int | str) -> tuple[F64, F64]:
    """Return how far off the camera's motion is estimated at every one of `SHIFTS`, pixels, and the same by the median of all flow.

    Both float64[5].
    """
    own, plain = np.empty(len(SHIFTS)), np.empty(len(SHIFTS))
    for n, length in enumerate(SHIFTS):
        angle = 2 * np.pi * drawn_unit("jitter", n, *key)
        true = length * np.array([np.cos(angle), np.sin(angle)])
        e = Evidence(moved_camera(pair, float(true[0]), float(true[1])))
        own[n] = np.hypot(e.camera.dx - true[0], e.camera.dy - true[1])
        plain[n] = np.linalg.norm(np.median(e.flow.reshape(-1, 2), 0) - true)
    return own, plain
