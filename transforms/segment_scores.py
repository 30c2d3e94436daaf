"""How well do two segmentations of one recording agree? Boundaries, frames, order and overlap, each by its published definition."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transforms.grid import changes, runs
from transforms.language.sequences import edit_distance
from transforms.rotation import F64


def matched_boundaries(found: F64, truth: F64, tolerance_s: float) -> int:
    """Count the most boundaries (seconds, rising) that can be paired one to one within `tolerance_s`.

    On a line, pairing the earliest that fit is a largest matching, so this is what the Hungarian method finds.
    """
    hits, i, j = 0, 0, 0
    while i < len(found) and j < len(truth):
        apart = found[i] - truth[j]
        if abs(apart) <= tolerance_s + 1e-9:
            hits, i, j = hits + 1, i + 1, j + 1
        elif apart < 0:
            i += 1
        else:
            j += 1
    return hits


def f1(hits: float, found: float, truth: float) -> float:
    """F1 of `hits` among `found` and `truth`; 1 where there was nothing to find and nothing was."""
    return 1.0 if found + truth == 0 else 2 * hits / (found + truth)


def edit_score(found: Sequence[int], truth: Sequence[int]) -> float:
    """1 - normalised Levenshtein distance of two label sequences (Lea et al. 2016), in [0, 1]."""
    if not found and not truth:
        return 1.0
    return 1 - edit_distance(found, truth) / max(len(found), len(truth))


def overlap_hits(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], iou: float) -> tuple[int, int, int]:
    """Count segments of frame labels int64[T] for F1@IoU (Lea et al. 2017): `(hits, found, truth)`.

    A found segment hits the true segment of its label that it overlaps most, if their IoU reaches `iou` and no other hit it.
    """
    mine, theirs = _spans(found), _spans(truth)
    taken, hits = set[int](), 0
    for a, b, label in mine:
        shares = [_iou(a, b, c, d) if other == label else 0.0 for c, d, other in theirs]
        best = int(np.argmax(shares)) if shares else -1
        if best >= 0 and shares[best] >= iou and shares[best] > 0 and best not in taken:
            taken.add(best)
            hits += 1
    return hits, len(mine), len(theirs)


def _spans(labels: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    first, length = runs(changes(labels))
    return [(a, a + n, int(labels[a])) for a, n in zip(first.tolist(), length.tolist(), strict=True)]


def _iou(a: int, b: int, c: int, d: int) -> float:
    return max(0, min(b, d) - max(a, c)) / (max(b, d) - min(a, c))
