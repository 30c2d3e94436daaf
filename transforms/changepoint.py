"""Where does one movement end and the next begin? Change points of a signal by exact dynamic programming.

A segment is as good as the best smooth curve through it; every segment costs a fixed price, and a boundary where something was
noticed (`transforms.cues`) is paid for. Signals are float64[D, T] on an even grid, in units in which a misfit of 1 is a large one.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from transforms.grid import I64
from transforms.rotation import F64

Model = Literal["bspline", "constant_velocity"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Boundaries of one sequence.

    Attributes:
        first: int64[S] first sample of each segment; the first is 0.
        gain: float64[S] how much dearer the best segmentation without that boundary's segment start is; infinite for the first.
        cost: the total that was minimised.
    """

    first: I64
    gain: F64
    cost: float


def residuals(x: F64, longest: int, model: Model) -> F64:
    """Squared misfit of every segment, float64[longest + 1, T + 1]; entry `[n, i]` is that of samples `[i, i + n)`.

    Infinite where the segment would leave the sequence, and for n = 0. `bspline` is the least-squares cubic spline with five control
    points, `constant_velocity` a straight line; up to five (two) samples they fit exactly.
    """
    size = x.shape[1]
    result = np.full((longest + 1, size + 1), np.inf)
    power = np.concatenate([[0.0], np.cumsum((x * x).sum(0))])
    for n in range(1, min(longest, size) + 1):
        basis = _basis(n, model)
        if basis.shape[1] == n:
            result[n, : size - n + 1] = 0.0
            continue
        windows = np.lib.stride_tricks.sliding_window_view(x, n, axis=1)
        seen = windows @ basis
        result[n, : size - n + 1] = np.maximum(power[n:] - power[:-n] - (seen * seen).sum((0, 2)), 0.0)
    return result


def cut(misfit: F64, penalty: float, reward: F64, shortest: int) -> Cut:
    """Split a sequence at the least sum of misfits, plus `penalty` per segment, minus the reward of every boundary.

    Args:
        misfit: from `residuals`, float64[L + 1, T + 1].
        penalty: price of a segment.
        reward: float64[T]; what a boundary at each sample is worth.
        shortest: least samples of a segment; a sequence shorter than two of these is one segment.
    """
    longest, size = misfit.shape[0] - 1, misfit.shape[1] - 1
    price = misfit + penalty
    price[:shortest] = np.inf
    if size < 2 * shortest:
        return Cut(np.zeros(1, np.int64), np.array([np.inf]), float(penalty))
    worth = np.concatenate([[0.0], reward[1:], [0.0]])
    before, came = _forward(price, worth, size, longest)
    after = _backward(price, worth, size, longest)
    edges, at = list[int](), size
    while at > 0:
        at = int(came[at])
        edges.append(at)
    first = np.array(edges[::-1], np.int64)
    gain = np.array([np.inf, *(_without(price, before - worth, after, int(b), longest) - before[size] for b in first[1:])])
    return Cut(first, gain, float(before[size]))


def _forward(price: F64, worth: F64, size: int, longest: int) -> tuple[F64, I64]:
    """Cost of the best segmentation of `[0, t)`, float64[T + 1], and where its last segment begins."""
    best, came = np.full(size + 1, np.inf), np.zeros(size + 1, np.int64)
    best[0] = 0.0
    lengths = np.arange(1, longest + 1)
    for t in range(1, size + 1):
        n = lengths[: min(t, longest)]
        total = best[t - n] - worth[t - n] + price[n, t - n]
        at = int(np.argmin(total))
        best[t], came[t] = total[at], t - n[at]
    return best, came


def _backward(price: F64, worth: F64, size: int, longest: int) -> F64:
    """Cost of the best segmentation of `[t, T)`, float64[T + 1], less the reward of the boundary at t."""
    best = np.full(size + 1, np.inf)
    best[size] = 0.0
    lengths = np.arange(1, longest + 1)
    for t in range(size - 1, -1, -1):
        n = lengths[: min(size - t, longest)]
        best[t] = (price[n, t] + best[t + n]).min() - worth[t]
    return best


def _without(price: F64, before: F64, after: F64, boundary: int, longest: int) -> float:
    """Cost of the best segmentation in which one segment covers both sides of `boundary`; both parts count their own boundary."""
    size = len(before) - 1
    starts = np.arange(max(0, boundary - longest + 1), boundary)
    stops = np.arange(boundary + 1, min(size, boundary + longest - 1) + 1)
    n = stops[None, :] - starts[:, None]
    fits = n <= longest
    total = np.where(fits, price[np.minimum(n, longest), starts[:, None]], np.inf)
    total = total + before[starts][:, None] + after[stops][None, :]
    return float(total.min()) if total.size else float("inf")


@lru_cache(maxsize=1024)
def _basis(n: int, model: Model) -> F64:
    """Orthonormal basis float64[n, K] of the curves on n even samples.

    The cubic splines with five control points and clamped ends are the cubics with one knot in the middle: 1, x, x^2, x^3, (x)+^3.
    """
    x = np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)
    columns = [np.ones(n), x] if model == "constant_velocity" else [np.ones(n), x, x**2, x**3, np.maximum(x, 0.0) ** 3]
    if n <= len(columns):
        return np.eye(n)
    q, _ = np.linalg.qr(np.stack(columns, 1))
    return np.ascontiguousarray(q)
