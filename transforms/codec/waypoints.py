"""Ramer-Douglas-Peucker: the few points of a track from which linear interpolation recovers all others to within a tolerance.

With `times`, the distance is to where the interpolation is at that instant, which is what bounds an action chunk; without them, to the
chord, which is what a drawn line needs.
"""

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.codec.base import F64, I64


def simplify(
    points: F64, tolerance: float, times: F64 | None = None, *, most: int | None = None, keep: tuple[int, ...] = ()
) -> I64:
    """Choose points of a track.

    Args:
        points: float64[n, k], n >= 1.
        tolerance: largest distance of a left-out point; the worst segment is split first.
        times: float64[n], rising.
        most: stop at this many points (the ends and `keep` always stay), whatever the distance.
        keep: points that always stay.

    Returns:
        int64[m], rising places of the chosen points; the first and last are among them.
    """
    last = len(points) - 1
    chosen = sorted({0, last, *keep})
    heap: list[tuple[float, int, int, int]] = []
    for a, b in pairwise(chosen):
        _push(heap, points, times, a, b)
    while heap and -heap[0][0] > tolerance and (most is None or len(chosen) < most):
        _, a, b, at = heapq.heappop(heap)
        chosen.append(at)
        _push(heap, points, times, a, at)
        _push(heap, points, times, at, b)
    return np.array(sorted(chosen), np.int64)


def rebuild(places: I64, values: F64, count: int, times: F64 | None = None) -> F64:
    """Interpolate chosen values float64[m, k] linearly over all `count` points, float64[count, k]."""
    clock = np.arange(count, dtype=np.float64) if times is None else times
    return np.stack([np.interp(clock, clock[places], column) for column in values.T], axis=1)


@dataclass(frozen=True, slots=True)
class WaypointCodec:
    """Coarse reference trajectories (ACoT-VLA): an absolute track by its waypoints, every number within `tolerance` at every step.

    The first and last point are kept, so the displacement over the chunk is exact. Changes per step are added up first.
    """

    tolerance: float

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise UsageError(f"a tolerance of {self.tolerance} keeps every point; use one above 0")

    def encode(self, track: F64) -> tuple[I64, F64]:
        """Return places int64[m] and values float64[m, A] of an absolute track float64[H, A]."""
        # the euclidean distance bounds each number's
        places = simplify(track, self.tolerance, np.arange(len(track), dtype=np.float64))
        return places, track[places]

    def decode(self, places: I64, values: F64, count: int) -> F64:
        """Return the track float64[count, A]."""
        return rebuild(places, values, count)

    def encode_deltas(self, deltas: F64) -> tuple[I64, F64]:
        """Return the waypoints of what changes float64[H, A] add up to, H + 1 points from zero."""
        return self.encode(np.concatenate([np.zeros((1, deltas.shape[1])), np.cumsum(deltas, axis=0)]))

    def decode_deltas(self, places: I64, values: F64, count: int) -> F64:
        """Return changes float64[count, A] whose sum is exact and whose running sum is within the tolerance."""
        return np.diff(self.decode(places, values, count + 1), axis=0)


def _push(heap: list[tuple[float, int, int, int]], points: F64, times: F64 | None, a: int, b: int) -> None:
    if b - a < 2:
        return
    gap = _distances(points, times, a, b)
    at = int(np.argmax(gap))
    heapq.heappush(heap, (-float(gap[at]), a, b, a + 1 + at))


def _distances(points: F64, times: F64 | None, a: int, b: int) -> npt.NDArray[np.float64]:
    """Distance of every point between a and b to the segment, float64[b - a - 1]."""
    inside, chord = points[a + 1 : b] - points[a], points[b] - points[a]
    if times is None:
        length = float(chord @ chord)
        share = np.clip(inside @ chord / length, 0, 1) if length > 0 else np.zeros(len(inside))
    else:
        share = (times[a + 1 : b] - times[a]) / (times[b] - times[a])
    return np.linalg.norm(inside - share[:, None] * chord, axis=1)
