"""Which pictures of a batch make pairs, and which steps lie between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.clips import Clip
from transforms.grid import BOOL, I64
from transforms.horizon import Boundary, ahead


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of one batch and camera, by episode and first picture; those that look past the end are there too.

    Attributes:
        first: int64[P], row of `pictures` of the earlier picture.
        second: int64[P], of the later one; the earlier one again where there is none.
        horizon: int64[P], which of the model's horizons.
        valid: bool[P], whether there is a later one.
        start: int64[P], row of the batch's steps where the span begins.
        stop: int64[P], row after it.
        t0_ns: int64[P], when the earlier picture is shown.
        t1_ns: int64[P], when the later one is.
        scale: float64[P], pixels as recorded per pixel of the model's.
    """

    first: I64
    second: I64
    horizon: I64
    valid: BOOL
    start: I64
    stop: I64
    t0_ns: I64
    t1_ns: I64
    scale: npt.NDArray[np.float64]


def pairs_in(batch: Batch, clips: Sequence[Clip], horizons_s: Sequence[float], boundary: Boundary) -> Pairs:
    """Return all pairs of one camera; an episode without pictures has one that is of no picture."""
    tables, scales, base = list[I64](), list[npt.NDArray[np.float64]](), 0
    for episode, clip in enumerate(clips):
        found = _of_clip(clip, int(batch.starts[episode]), int(batch.starts[episode + 1]), base, horizons_s, boundary)
        tables.append(found)
        scales.append(np.full(len(found), 1 / max(clip.scale[1], 1e-9)))
        base += len(clip)
    first, second, horizon, valid, start, stop, t0, t1 = np.concatenate(tables).T
    return Pairs(first, second, horizon, valid.astype(bool), start, stop, t0, t1, np.concatenate(scales))


def _of_clip(clip: Clip, start: int, end: int, base: int, horizons_s: Sequence[float], boundary: Boundary) -> I64:
    """Return the pairs of one clip, int64[P, 8], by first picture and horizon."""
    if not len(clip):
        return np.array([[-1, -1, 0, 0, start, end, 0, 0]], np.int64)
    here, rows, first = np.arange(len(clip)), list[I64](), start + clip.step
    for place, horizon in enumerate(horizons_s):
        found, valid = ahead(clip.t_ns, np.array([0, len(clip)], np.int64), horizon, boundary)
        found = np.where(valid, found, here)
        stop = np.where(valid, np.maximum(start + clip.step[found], first + 1), end)
        which, real = np.full(len(clip), place), valid.astype(np.int64)
        rows.append(np.stack([here + base, found + base, which, real, first, stop, clip.t_ns, clip.t_ns[found]], 1))
    return np.stack(rows, 1).reshape(-1, 8)
