"""Maps and tokens of gaze, made from a point whenever they are needed and never stored.

Points are shares of the picture, x right and y down, (0, 0) the upper left corner and (1, 1) the lower right one. Cell (i, j) of a map of
H rows and W columns covers [j / W, (j + 1) / W) by [i / H, (i + 1) / H).
"""

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.grid import I64
from transforms.rotation import F64

F32 = npt.NDArray[np.float32]
LOCS = 1024  # location tokens of PaliGemma


def heat(xy: npt.ArrayLike, size: tuple[int, int], sigma: float | npt.ArrayLike) -> F32:
    """Return Gaussian maps around points.

    Args:
        xy: float[..., 2], shares of the picture; a point outside still has the part of its Gaussian that is inside.
        size: rows and columns.
        sigma: standard deviation, share of the picture's width, one number or float[...]; round in pixels of a square picture.

    Returns:
        float32[..., rows, columns], each summing to 1; all zero where the point is NaN.
    """
    points = np.asarray(xy, np.float64)
    wide = np.broadcast_to(np.asarray(sigma, np.float64), points.shape[:-1])[..., None]
    across, down = (
        np.exp(-(((np.arange(n) + 0.5) / n - points[..., k, None]) ** 2) / (2 * wide**2)) for k, n in ((0, size[1]), (1, size[0]))
    )
    made = down[..., :, None] * across[..., None, :]
    total = made.sum((-2, -1), keepdims=True)
    known = np.asarray(np.isfinite(points).all(-1))[..., None, None] & (total > 0)
    return np.where(known, made / np.where(known, total, 1.0), 0.0).astype(np.float32)


def at(maps: npt.NDArray[np.floating], xy: npt.ArrayLike) -> F64:
    """Read maps at points by bilinear interpolation between centres of cells, held at the border.

    Args:
        maps: [H, W], or [N, H, W] with one point each.
        xy: float[..., 2], or float[N, 2].

    Returns:
        float64[...], or float64[N].
    """
    points = np.asarray(xy, np.float64)
    height, width = maps.shape[-2:]
    x = np.clip(points[..., 0] * width - 0.5, 0, width - 1)
    y = np.clip(points[..., 1] * height - 0.5, 0, height - 1)
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = x - left, y - top
    lead = (np.arange(len(maps)),) if maps.ndim == 3 else ()
    upper = (1 - u) * maps[*lead, top, left] + u * maps[*lead, top, right]
    return np.asarray((1 - v) * upper + v * ((1 - u) * maps[*lead, low, left] + u * maps[*lead, low, right]), np.float64)


def expected_point(maps: npt.NDArray[np.floating]) -> F64:
    """Return the mean place float64[..., 2] of maps [..., H, W] of any positive total (a soft argmax)."""
    weight = maps.astype(np.float64) / maps.sum((-2, -1), keepdims=True, dtype=np.float64)
    height, width = maps.shape[-2:]
    across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return np.stack([weight.sum(-2) @ across, weight.sum(-1) @ down], -1)


def peak_point(maps: npt.NDArray[np.floating]) -> F64:
    """Return the centre of the highest cell, float64[..., 2]; the first of equals."""
    height, width = maps.shape[-2:]
    best = maps.reshape(*maps.shape[:-2], -1).argmax(-1)
    return np.stack([(best % width + 0.5) / width, (best // width + 0.5) / height], -1)


def tokens(xy: npt.ArrayLike, grid: int = 16) -> I64:
    """Return the row-major bin of points float[..., 2] on a grid of `grid` by `grid`, int64[...]; -1 outside the picture or where NaN."""
    points = np.asarray(xy, np.float64)
    inside = np.asarray(((points >= 0) & (points <= 1)).all(-1))
    cell = np.minimum(np.floor(np.where(inside[..., None], points, 0.0) * grid), grid - 1).astype(np.int64)
    return np.where(inside, cell[..., 1] * grid + cell[..., 0], -1)


def token_points(token: npt.ArrayLike, grid: int = 16) -> F64:
    """Return the centres of bins, float64[..., 2]; NaN of -1.

    Raises:
        UsageError: a token is not on the grid.
    """
    number = np.asarray(token, np.int64)
    if number.size and (number.min() < -1 or number.max() >= grid * grid):
        raise UsageError(
            f"gaze tokens {number.min()}..{number.max()} leave a grid of {grid} by {grid}; name the grid they were made with"
        )
    found = np.stack([(number % grid + 0.5) / grid, (number // grid + 0.5) / grid], -1)
    return np.where(number[..., None] >= 0, found, np.nan)


def loc_text(xy: npt.ArrayLike) -> str:
    """Return one point as PaliGemma's location tokens, row first: `<loc0512><loc0100>`."""
    x, y = np.asarray(xy, np.float64).tolist()
    row, column = (min(int(v * LOCS), LOCS - 1) for v in (y, x))
    return f"<loc{row:04d}><loc{column:04d}>"
