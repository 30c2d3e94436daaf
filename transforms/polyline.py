"""Choosing the few points of a track that a drawn line shows: evenly in time, evenly along the line, or where it bends."""

from typing import Literal

import numpy as np

from transforms.codec.base import F64, I64
from transforms.codec.waypoints import simplify

Sampling = Literal["uniform_time", "arc_length", "rdp"]


def choose_points(track: F64, times: F64, how: Sampling, most: int, keep: tuple[int, ...], tolerance: float) -> I64:
    """Choose at most `most` points of a track, first and last among them.

    Args:
        track: float64[n, k], n >= 1.
        times: float64[n] seconds, rising.
        how: `uniform_time` (MolmoAct), `arc_length`, or `rdp` (Ramer-Douglas-Peucker).
        most: points at most, 2 or more.
        keep: points that have to be there (gripper events), in order; where they are too many, the first ones.
        tolerance: of `rdp`.

    Returns:
        int64[m], rising places.
    """
    last = len(track) - 1
    kept = tuple(p for p in dict.fromkeys(keep) if 0 < p < last)[: most - 2]
    if how == "rdp":
        return simplify(track, tolerance, most=most, keep=kept)
    free = most - len(kept)
    if how == "uniform_time":
        along = times - times[0]
    else:
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(track, axis=0), axis=1))])
    if along[-1] <= 0:
        return np.array(sorted({0, *kept, last}), np.int64)
    wanted = np.linspace(0, along[-1], free)
    right = np.clip(np.searchsorted(along, wanted), 1, max(last, 1))
    near = np.where(wanted - along[right - 1] <= along[np.minimum(right, last)] - wanted, right - 1, right)
    return np.array(sorted({0, *kept, *np.minimum(near, last).tolist(), last}), np.int64)


def dynamic_time_warping(a: F64, b: F64) -> float:
    """Return the mean distance along the best monotone matching of two tracks float64[n, k] and float64[m, k]."""
    gap = np.linalg.norm(a[:, None] - b[None], axis=2)
    cost, steps = gap[0].cumsum(), np.arange(1, len(b) + 1, dtype=np.float64)
    for row in gap[1:]:
        fresh, count = np.empty_like(cost), np.empty_like(steps)
        for j in range(len(b)):
            choices = [(cost[j], steps[j])]
            if j:
                choices += [(cost[j - 1], steps[j - 1]), (fresh[j - 1], count[j - 1])]
            before, taken = min(choices)
            fresh[j], count[j] = before + row[j], taken + 1
        cost, steps = fresh, count
    return float(cost[-1] / steps[-1])
