"""Statistics as LeRobot stores them, but true ones: quantiles over all rows, pictures through exact 256-bin histograms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", *QUANTILES)
SIDE, LARGE = 150, 300  # LeRobot thins pictures of 300 pixels or more to about 150
LEVELS = 256
BLOCK_BYTES = 128 << 20  # of float64 at a time, so that statistics of a long dataset stay within bounds

F64 = npt.NDArray[np.float64]
Stats = dict[str, npt.NDArray[Any]]


def value_stats(columns: Mapping[str, Sequence[npt.NDArray[Any]]]) -> dict[str, Stats]:
    """Compute `min max mean std count q01..q99` of each column over all of its rows.

    Args:
        columns: per key, the parts [T_i, *shape] of one column; all columns have the same number of rows.

    Returns:
        Per key, float64[*shape] (float64[1] for scalars) per statistic and `count` int64[1].
    """
    flat = {k: _rows(parts) for k, parts in columns.items()}
    if not flat:
        return {}
    computed = _matrix_stats(np.concatenate(list(flat.values()), axis=1))
    count, result, at = len(next(iter(flat.values()))), dict[str, Stats](), 0
    for key, parts in columns.items():
        width, shape = flat[key].shape[1], parts[0].shape[1:] or (1,)
        result[key] = {n: computed[n][at : at + width].reshape(shape) for n in NAMES} | {"count": np.array([count])}
        at += width
    return result


def picture_counts(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count pixel values of thinned pictures uint8[n, H, W, C]; returns int64[C, 256]."""
    height, width = pictures.shape[1:3]
    step = max(1, max(height, width) // SIDE) if max(height, width) >= LARGE else 1
    thin = pictures[:, ::step, ::step]
    return np.stack([np.bincount(thin[..., c].reshape(-1), minlength=LEVELS) for c in range(thin.shape[-1])])


def picture_stats(counts: npt.NDArray[np.int64], pictures: int) -> Stats:
    """Turn int64[C, 256] pixel counts into statistics float64[C, 1, 1] on [0, 1]; `count` is the number of pictures."""
    levels = np.arange(LEVELS) / (LEVELS - 1)
    total = counts.sum(1)
    mean = counts @ levels / total
    square = counts @ levels**2 / total
    seen = counts > 0
    result = {
        "min": levels[seen.argmax(1)],
        "max": levels[LEVELS - 1 - seen[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(square - mean**2, 0)),
    }
    below = counts.cumsum(1)
    for name, share in QUANTILES.items():
        place = share * (total - 1)  # numpy's linear interpolation between order statistics
        low = np.array([np.searchsorted(row, np.floor(p), "right") for row, p in zip(below, place, strict=True)])
        high = np.array([np.searchsorted(row, np.ceil(p), "right") for row, p in zip(below, place, strict=True)])
        result[name] = levels[low] + (levels[high] - levels[low]) * (place - np.floor(place))
    return {k: v.reshape(-1, 1, 1) for k, v in result.items()} | {"count": np.array([pictures])}


def _rows(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return whole.reshape(len(whole), -1)


def _matrix_stats(matrix: npt.NDArray[Any]) -> dict[str, F64]:
    """Statistics down the columns of [T, D]; cells that are not finite do not count, and a column of them gives 0."""
    width = max(1, BLOCK_BYTES // (8 * max(1, len(matrix))))
    if matrix.shape[1] > width:
        blocks = [_matrix_stats(matrix[:, at : at + width]) for at in range(0, matrix.shape[1], width)]
        return {name: np.concatenate([b[name] for b in blocks]) for name in NAMES}
    values = matrix.astype(np.float64)
    if np.isfinite(values).all():
        spread = np.quantile(values, list(QUANTILES.values()), axis=0)
        basic = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
        return basic | dict(zip(QUANTILES, spread, strict=True))
    parts = [_matrix_stats(kept[:, None] if len(kept := c[np.isfinite(c)]) else np.zeros((1, 1))) for c in values.T]
    return {name: np.concatenate([p[name] for p in parts]) for name in NAMES}
