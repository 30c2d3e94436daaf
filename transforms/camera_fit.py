"""Finding a camera from where it sees known points: direct linear transformation (Hartley and Zisserman, 7.1) within RANSAC.

A hand's path is short and often nearly flat, and noisy pairs along it do not determine eleven numbers: a full camera then explains
them and fails a few centimetres further. So three models compete: a full camera, a homography of the path's plane, and an affine
camera. Each is fitted on three quarters of the path and judged on the fourth, in turn; the best one is fitted on everything. All are
written as 3x4 matrices.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
BOOL = npt.NDArray[np.bool_]
LEAST = 20  # pairs
FLAT = 1e-3  # of the largest extent: thinner clouds are planes
BLOCKS = 4
Model = Literal["full", "plane", "affine"]


@dataclass(frozen=True, slots=True)
class FittedCamera:
    """A camera found from pairs.

    Attributes:
        matrix: float64[3, 4]: homogeneous pixels of homogeneous points.
        rmse: reprojection error of the pairs that agree, pixels.
        inliers: bool[n], pairs that agree.
        model: what was found: a `full` camera, one of a `plane`, or an `affine` one.
    """

    matrix: F64
    rmse: float
    inliers: BOOL
    model: Model

    def project(self, points: F64) -> tuple[F64, BOOL]:
        """Return pixels float64[2, T] of points float64[3, T], and whether each is in front of the camera."""
        u, v, w = self.matrix @ np.concatenate([points, np.ones((1, points.shape[1]))])
        ahead = np.asarray(w > 1e-9)
        return np.where(ahead, np.stack([u, v]) / np.where(ahead, w, 1.0), np.nan), ahead


def fit_camera(points: F64, pixels: F64, threshold: float, seed: int = 0, rounds: int = 100) -> FittedCamera | str:
    """Find a camera from pairs of points and pixels.

    Args:
        points: float64[3, n], metres.
        pixels: float64[2, n]; NaN where a point was not seen.
        threshold: pairs further off than this many pixels do not agree.
        seed: of the draws.
        rounds: most draws.

    Returns:
        The camera, or why there is none: `too_few_pairs`, `degenerate_motion`.
    """
    seen = np.isfinite(points).all(0) & np.isfinite(pixels).all(0)
    x, u = points[:, seen], pixels[:, seen]
    if x.shape[1] < LEAST:
        return "too_few_pairs"
    centre = x.mean(1, keepdims=True)
    axes, extent, _ = np.linalg.svd((x - centre) / math.sqrt(x.shape[1]), full_matrices=False)
    if extent[1] <= FLAT * extent[0]:
        return "degenerate_motion"  # a line, or a point
    flat = bool(extent[2] <= FLAT * extent[0])
    charts: dict[Model, F64] = {
        "full": _chart(centre[:, 0], axes),
        "plane": _chart(centre[:, 0], axes[:, :2]),
        "affine": _chart(centre[:, 0], axes[:, : 2 if flat else 3]),
    }
    if flat:
        del charts["full"]
    scores: dict[Model, float] = {m: _judged(m, _along(chart, x), u, threshold, seed, rounds // 2) for m, chart in charts.items()}
    best: Model = min(charts, key=lambda m: scores[m])
    found = _robust(best, _along(charts[best], x), u, threshold, seed, rounds)
    if found is None or found[1].sum() < max(LEAST, seen.sum() / 2):
        return "degenerate_motion"
    matrix, agree = found
    gap = _distance(matrix, _along(charts[best], x), u)[agree]
    inliers = np.zeros(points.shape[1], np.bool_)
    inliers[np.flatnonzero(seen)[agree]] = True
    whole = matrix @ charts[best]
    side = np.sign(np.median((whole @ np.concatenate([x, np.ones((1, x.shape[1]))]))[2]))
    return FittedCamera(whole * (side or 1.0), float(np.sqrt((gap * gap).mean())), inliers, best)


def _judged(model: Model, x: F64, u: F64, threshold: float, seed: int, rounds: int) -> float:
    """Return the mean distance, cut at the threshold, of each quarter of the path under what the other three say."""
    block = np.arange(x.shape[1]) * BLOCKS // x.shape[1]
    losses: list[F64] = []
    for left_out in range(BLOCKS):
        rest = block != left_out
        found = _robust(model, x[:, rest], u[:, rest], threshold, seed, rounds)
        if found is None:
            return float("inf")
        losses.append(np.asarray(np.minimum(_distance(found[0], x[:, ~rest], u[:, ~rest]), threshold), np.float64))
    return float(np.concatenate(losses).mean())


def _robust(model: Model, x: F64, u: F64, threshold: float, seed: int, rounds: int) -> tuple[F64, BOOL] | None:
    """Return the model of the largest set of pairs that agree, fitted on all of them, and the set."""
    agree = _consensus(model, x, u, threshold, seed, rounds)
    if agree is None:
        return None
    matrix = _fit(model, x[:, agree], u[:, agree])
    for _ in range(3):  # the pairs that agree, found again with all of them
        again = _distance(matrix, x, u) <= threshold
        if again.sum() < _least(model, x) or bool((again == agree).all()):
            break
        agree = again
        matrix = _fit(model, x[:, agree], u[:, agree])
    return matrix, agree


def _least(model: Model, x: F64) -> int:
    """Pairs that determine a model."""
    return len(x) + 1 if model == "affine" else 6 if len(x) == 3 else 4


def _fit(model: Model, x: F64, u: F64) -> F64:
    """Return the matrix float64[3, k + 1] of a model."""
    if model != "affine":
        return _dlt(x, u)
    known = np.concatenate([x, np.ones((1, x.shape[1]))])
    rows = np.linalg.lstsq(known.T, u.T, rcond=None)[0].T
    return np.concatenate([rows, np.eye(len(known))[-1:]]).astype(np.float64)


def _along(chart: F64, x: F64) -> F64:
    return np.asarray((chart @ np.concatenate([x, np.ones((1, x.shape[1]))]))[:-1], np.float64)


def _chart(centre: F64, axes: F64) -> F64:
    """Return the matrix float64[k + 1, 4] that takes homogeneous points to homogeneous coordinates along `axes`."""
    rows = np.concatenate([axes.T, -(axes.T @ centre)[:, None]], axis=1)
    return np.concatenate([rows, [[0.0, 0.0, 0.0, 1.0]]])


def _consensus(model: Model, x: F64, u: F64, threshold: float, seed: int, rounds: int) -> BOOL | None:
    """Return the largest set of pairs that one model of a minimal sample explains."""
    least = _least(model, x)
    everything = _distance(_fit(model, x, u), x, u) <= threshold
    if everything.all():
        return everything
    random = np.random.Generator(np.random.Philox(seed))
    best: BOOL | None = None
    for _ in range(rounds):
        chosen = random.choice(x.shape[1], least, replace=False)
        agree = _distance(_fit(model, x[:, chosen], u[:, chosen]), x, u) <= threshold
        if best is None or agree.sum() > best.sum():
            best = agree
    return best if best is not None and best.sum() >= least else None


def _dlt(x: F64, u: F64) -> F64:
    """Return the matrix float64[3, k + 1] that takes points float64[k, n] to pixels float64[2, n], least squares of the algebra."""
    known, seen = _spread(x), _spread(u)
    a = known @ np.concatenate([x, np.ones((1, x.shape[1]))])
    b = seen @ np.concatenate([u, np.ones((1, u.shape[1]))])
    zero = np.zeros_like(a)
    rows = np.concatenate([np.concatenate([a, zero, -b[0] * a]).T, np.concatenate([zero, a, -b[1] * a]).T])
    short = rows.shape[1] - len(rows)  # a minimal sample has fewer equations than unknowns; the solution is what they leave free
    rows = np.concatenate([rows, np.zeros((max(short, 0), rows.shape[1]))])
    _, _, right = np.linalg.svd(rows, full_matrices=False)
    return np.linalg.inv(seen) @ right[-1].reshape(3, -1) @ known


def _spread(x: F64) -> F64:
    """Return the homogeneous matrix that moves a cloud to the origin and makes its mean distance sqrt(k)."""
    centre = x.mean(1)
    size = float(np.sqrt(((x - centre[:, None]) ** 2).sum(0)).mean())
    scale = math.sqrt(len(x)) / max(size, 1e-12)
    matrix = np.eye(len(x) + 1) * scale
    matrix[:-1, -1] = -scale * centre
    matrix[-1, -1] = 1.0
    return matrix


def _distance(matrix: F64, x: F64, u: F64) -> F64:
    found = matrix @ np.concatenate([x, np.ones((1, x.shape[1]))])
    scale = np.where(np.abs(found[2]) > 1e-12, found[2], np.inf)
    gap = np.hypot(*(found[:2] / scale - u))
    return np.asarray(gap, np.float64)
