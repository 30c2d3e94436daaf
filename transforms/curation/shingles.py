"""A trajectory as a set of shapes: n-grams of cells along its arc, which do not know when or how fast they were passed.

Two recordings of one motion share most of them, whatever their rates, noise, pauses or trimmed ends; two different motions share
almost none. Shingles indexed by time do not survive a trim of 10 % (Jaccard .26).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.rotation import F64

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
SMOOTH_S, STEP, CELL, GRAM = 0.25, 0.1, 0.75, 3  # seconds; standard deviations; standard deviations; cells
DIMS = 7  # for which STEP was chosen: more numbers make longer arcs
LEAST = 24  # shingles: below, an episode hardly moves and has no shape to compare
_GOLDEN, _M1, _M2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def shingles(values: F64, scale: F64, hz: float) -> U32:
    """Return the sorted distinct shingles, uint32[n], of a trajectory float64[T, D].

    Each number is smoothed over 0.25 s and divided by its standard deviation, `scale` float64[D]; the path is resampled every 0.1 of
    arc length, which drops pauses; pairs of neighbouring numbers are quantised to cells of 0.75 on two grids half a cell apart, runs
    of one cell become one, and every three cells in a row are a shingle.
    """
    path = _arc(_smooth(values, max(1, round(SMOOTH_S * hz))) / scale)
    if len(path) < GRAM:
        return np.zeros(0, np.uint32)
    found: list[U64] = []
    for grid in (0.0, 0.5):
        cells = np.floor(path / CELL + grid).astype(np.int64)
        for dim in range(max(1, cells.shape[1] - 1)):
            pair = cells[:, dim : dim + 2]
            code = (pair[:, 0].astype(np.uint64) << np.uint64(32)) ^ (pair[:, -1].astype(np.uint64) & np.uint64(0xFFFFFFFF))
            code = code[np.concatenate([[True], code[1:] != code[:-1]])]
            if len(code) >= GRAM:
                seed = np.uint64(dim * 2 + int(grid > 0) + 1)
                mixed = np.full(len(code) - GRAM + 1, seed) * _GOLDEN
                for k in range(GRAM):
                    mixed = _mix(mixed + code[k : len(code) - GRAM + 1 + k])
                found.append(mixed)
    if not found:
        return np.zeros(0, np.uint32)
    return np.unique((np.concatenate(found) >> np.uint64(32)).astype(np.uint32))


def jaccard(a: U32, b: U32) -> tuple[float, float]:
    """Return the shared part of two sorted sets: of their union (Jaccard), and of the smaller one (containment)."""
    if not len(a) or not len(b):
        return 0.0, 0.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both), both / min(len(a), len(b))


def minhash(items: U32, size: int = 128) -> U32:
    """Return the MinHash signature of a set, uint32[size] (datasketch, affine permutations of 32-bit hashes)."""
    sketch = _empty(size).copy()
    sketch.update_batch(items.tolist())
    return np.asarray(sketch.hashvalues, np.uint32)


@lru_cache
def _empty(size: int) -> Any:
    """A sketch of nothing: drawing its permutations takes longer than a sketch does."""
    from datasketch import MinHash

    return MinHash(num_perm=size, seed=1, scheme="affine32", hashfunc=int)


def _smooth(values: F64, width: int) -> F64:
    if width < 2 or len(values) < width:
        return values
    padded = np.pad(values, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    total = np.cumsum(np.concatenate([np.zeros((1, values.shape[1])), padded]), axis=0)
    return (total[width:] - total[:-width]) / width


def _arc(path: F64) -> F64:
    """Resample a path evenly along its length."""
    step = STEP * np.sqrt(path.shape[1] / DIMS)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    if not along[-1] > step:
        return path[:1]
    at = np.arange(0.0, along[-1], step)
    right = np.clip(np.searchsorted(along, at, side="right"), 1, len(along) - 1)
    left = right - 1
    weight = (at - along[left]) / np.maximum(along[right] - along[left], 1e-12)
    return path[left] + weight[:, None] * (path[right] - path[left])


def _mix(x: U64) -> U64:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))
