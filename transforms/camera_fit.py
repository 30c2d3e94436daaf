"""Finding a camera from where it sees known points: direct linear transformation (Hartley and Zisserman, 7.1) within RANSAC.

Points of one plane do not determine a camera; for those a homography of the plane is found, written as a camera all the same, which
is right for points of the plane only.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
BOOL = npt.NDArray[np.bool_]
LEAST = 20  # pairs
FLAT = 1e-3  # of the largest extent: thinner clouds are planes


@dataclass(frozen=True, slots=True)
class FittedCamera:
    """A camera found from pairs.

    Attributes:
        matrix: float64[3, 4]: homogeneous pixels of homogeneous points.
        rmse: reprojection error of the pairs that agree, pixels.
        inliers: bool[n], pairs that agree.
        planar: whether the points were of one plane.
    """

    matrix: F64
    rmse: float
    inliers: BOOL
    planar: bool

    def project(self, points: F64) -> tuple[F64, BOOL]:
        """Return pixels float64[2, T] of points float64[3, T], and whether each is in front of the camera."""
        u, v, w = self.matrix @ np.concatenate([points, np.ones((1, points.shape[1]))])
        ahead = np.asarray(w > 1e-9)
        return np.where(ahead, np.stack([u, v]) / np.where(ahead, w, 1.0), np.nan), ahead


def fit_camera(points: F64, pixels: F64, threshold: float, seed: int = 0, rounds: int = 200) -> FittedCamera | str:
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
    planar = bool(extent[2] <= FLAT * extent[0])
    chart = _chart(centre[:, 0], axes[:, : 2 if planar else 3])
    flat = (chart @ np.concatenate([x, np.ones((1, x.shape[1]))]))[:-1]
    agree = _consensus(flat, u, threshold, seed, rounds)
    if agree is None:
        return "degenerate_motion"
    for _ in range(3):  # the pairs that agree, found again with all of them
        matrix = _dlt(flat[:, agree], u[:, agree])
        gap = _distance(matrix, flat, u)
        again = gap <= threshold
        if again.sum() < LEAST or bool((again == agree).all()):
            break
        agree = again
    matrix = _dlt(flat[:, agree], u[:, agree])
    gap = _distance(matrix, flat, u)[agree]
    if agree.sum() < max(LEAST, seen.sum() / 2):
        return "degenerate_motion"
    inliers = np.zeros(points.shape[1], np.bool_)
    inliers[np.flatnonzero(seen)[agree]] = True
    whole = matrix @ chart
    side = np.sign(np.median(whole @ np.concatenate([x, np.ones((1, x.shape[1]))]), axis=1)[2])
    return FittedCamera(whole * (side or 1.0), float(np.sqrt((gap * gap).mean())), inliers, planar)


def _chart(centre: F64, axes: F64) -> F64:
    """Return the matrix float64[k + 1, 4] that takes homogeneous points to homogeneous coordinates along `axes`."""
    rows = np.concatenate([axes.T, -(axes.T @ centre)[:, None]], axis=1)
    return np.concatenate([rows, [[0.0, 0.0, 0.0, 1.0]]])


def _consensus(x: F64, u: F64, threshold: float, seed: int, rounds: int) -> BOOL | None:
    """Return the largest set of pairs that one camera of a minimal sample explains."""
    least = 6 if len(x) == 3 else 4
    random = np.random.Generator(np.random.Philox(seed))
    best: BOOL | None = None
    everything = _distance(_dlt(x, u), x, u) <= threshold
    if everything.all():
        return everything
    for _ in range(rounds):
        chosen = random.choice(x.shape[1], least, replace=False)
        agree = _distance(_dlt(x[:, chosen], u[:, chosen]), x, u) <= threshold
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
