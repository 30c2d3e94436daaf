"""Did the camera move between two pictures? Dense flow in a border around the picture, and a second opinion from matched corners.

The median of each side is taken along gradients (horizontal motion where something changes horizontally), so that a wall or a table's
edge, along which nothing can be seen to move, has no vote in that direction; then the sides vote. It is right as long as most of the
texture stands still on two sides and a half.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.grid import BOOL
from transforms.rotation import F64

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
BORDER = 24 / 256  # of the shorter side
NOISE, STRONG = 16, 64  # of a Sobel gradient of levels: below there is nothing to see, above all edges count alike
LEAST_VOTES = 0.05  # of a side: fewer textured pixels say nothing
CORNERS, LEAST_INLIERS, LEAST_RATIO, RANSAC_PX = 600, 30, 0.4, 1.5


@dataclass(frozen=True, slots=True)
class Shift:
    """Motion of the camera: dx and dy of the middle side, and `px`, at least the middle length, which zoom and roll cannot hide from."""

    dx: float
    dy: float
    px: float


def fast_flow(first: U8, second: U8) -> F32:
    """Return the flow from luminance uint8[H, W] to another, float32[H, W, 2]: dense inverse search, fast preset (Kroeger et al. 2016)."""
    import cv2

    search = cv2.DISOpticalFlow.create(
        cv2.DISOPTICAL_FLOW_PRESET_FAST
    )  # one that is used again at another size answers differently
    return search.calc(np.ascontiguousarray(first), np.ascontiguousarray(second), None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def border_shift(flow: F32, grey: U8, robot: BOOL | None = None) -> Shift:
    """Return how the camera moved, in pixels: the middle one of the four sides of the border, each the median of its own texture.

    Args:
        flow: float32[H, W, 2].
        grey: luminance uint8[H, W] the flow starts from.
        robot: bool[H, W], what has no vote.
    """
    height, width = grey.shape
    edge = max(1, round(BORDER * min(height, width)))
    sides = (
        (slice(0, edge), slice(None)), (slice(height - edge, height), slice(None)),
        (slice(edge, height - edge), slice(0, edge)), (slice(edge, height - edge), slice(width - edge, width)),
    )  # fmt: skip
    parts = [_votes(flow[at], grey[at], None if robot is None else robot[at]) for at in sides]
    least = LEAST_VOTES * edge * min(height, width) / 4
    if not any(len(weights) >= least for part in parts for _, weights in part):
        parts, least = [_votes(flow, grey, robot)], 1  # an empty border: whatever there is to see must tell
    found = np.array([[weighted_median(*axis) for axis in part] for part in parts])
    seen = np.array([[len(weights) >= least for _, weights in part] for part in parts])
    across, down = (float(np.median(found[seen[:, k], k])) if seen[:, k].any() else 0.0 for k in (0, 1))
    lengths = np.hypot(*np.where(seen, found, 0.0).T)[seen.any(1)]
    return Shift(across, down, max(math.hypot(across, down), float(np.median(lengths)) if len(lengths) else 0.0))


def weighted_median(values: F64 | F32, weights: F64 | F32) -> float:
    """Return the value at which half of the weight lies below; 0 where there is no weight."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order], dtype=np.float64)
    if not len(total) or not total[-1] > 0:
        return 0.0
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def corner_shift(first: U8, second: U8) -> float | None:
    """Return how far the picture's corners move under the best similarity between ORB matches, pixels; None where few agree."""
    import cv2

    orb = cv2.ORB.create(CORNERS)
    seen: list[tuple[Any, Any]] = [orb.detectAndCompute(p, None) for p in (first, second)]
    (points, words), (others, theirs) = seen
    if words is None or theirs is None or min(len(points), len(others)) < LEAST_INLIERS:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words, theirs)
    if len(pairs) < LEAST_INLIERS:
        return None
    here = np.array([points[m.queryIdx].pt for m in pairs], np.float32)
    there = np.array([others[m.trainIdx].pt for m in pairs], np.float32)
    cv2.setRNGSeed(0)
    fit: tuple[Any, Any] = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PX)
    model, inliers = fit
    if model is None or inliers.sum() < LEAST_INLIERS or inliers.mean() <= LEAST_RATIO:
        return None
    height, width = first.shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    return float(np.linalg.norm(corners @ model.T - corners[:, :2], axis=1).max())


def _votes(flow: F32, grey: U8, robot: BOOL | None) -> list[tuple[F32, F32]]:
    """Return the horizontal and the vertical motions of a side, each with its weights: gradients, clipped, none where all is noise.

    Every other row and column: flow is that smooth.
    """
    import cv2

    found: list[tuple[F32, F32]] = []
    for axis in (0, 1):
        slope = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1 - axis, axis)[::2, ::2])
        seen = slope > NOISE
        if robot is not None:
            seen &= ~robot[::2, ::2]
        found.append((flow[::2, ::2, axis][seen], np.minimum(slope[seen], STRONG).astype(np.float32)))
    return found
