"""Exact nearest vectors by inner product: the same answer as brute force in float64, ties by row.

A first pass in low precision keeps whatever could still be among the best, given how far that precision can be off; only those few are
compared exactly. So the result does not depend on blocks, threads or the machine.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
BLOCK = 1 << 15  # rows at once: their scores stay in the cache
GROUP = 64  # rows of which only the largest score is looked at first
BFLOAT = 2.0**-9  # relative rounding of bfloat16


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest rows of each query, best first; -1 and -inf where there are fewer.

    Attributes:
        rows: int64[Q, k].
        scores: float64[Q, k].
    """

    rows: I64
    scores: F64


def nearest(keys: F16, queries: F32, k: int, longest: float | None = None, coarse: Any = None) -> Found:
    """Return the `k` rows with the largest inner product with each query.

    Args:
        keys: float16[N, D], may be memory-mapped.
        queries: float32[Q, D].
        k: how many, at least 1.
        longest: largest Euclidean length of a key, where it is known; else it is measured.
        coarse: what `rounded` made of the keys, where many questions are asked; without it blocks are widened again for each.

    Raises:
        UsageError: widths differ, `k` is not positive, or a query is not finite.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise UsageError(f"queries are {queries.shape} and keys {keys.shape}; both must be [n, D] with the same D")
    if k < 1 or not np.isfinite(queries).all():
        raise UsageError(f"k={k} must be at least 1 and every query finite")
    norm = longest if longest is not None else lengths(keys)
    slack = 2 * _error(queries, keys.shape[1], norm, rounds=coarse is not None)
    kept: list[list[I64]] = [[] for _ in queries]
    best = np.full((len(queries), k), -np.inf)
    for start, scores in _blocks(keys, queries, coarse):
        _keep(scores, start, best, slack, kept)
    return _exactly(keys, queries, k, kept)


def rounded(keys: F16) -> Any:
    """Return the keys in bfloat16, for processors that multiply those fast; None for others."""
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # torch asks itself this way
        return None
    made = torch.empty(keys.shape, dtype=torch.bfloat16)
    for start in range(0, len(keys), BLOCK):
        made[start : start + BLOCK] = _tensor(keys[start : start + BLOCK])
    return made


def lengths(keys: F16) -> float:
    """Return the largest Euclidean length of a row."""
    blocks = (keys[a : a + BLOCK].astype(np.float32) for a in range(0, len(keys), BLOCK))
    return max((float(np.linalg.norm(b, axis=1).max()) for b in blocks), default=0.0)


def _error(queries: F32, width: int, longest: float, *, rounds: bool) -> F64:
    """How far a coarse score can be off: sums are in float32; with `rounds`, keys, queries and scores are rounded to bfloat16."""
    length = np.linalg.norm(queries.astype(np.float64), axis=1) * longest
    return length * ((3.1 * BFLOAT if rounds else 0.0) + 2 * width * 2.0**-24) + width * 2.0**-24


def _blocks(keys: F16, queries: F32, coarse: Any) -> Iterator[tuple[int, Any]]:
    """Yield the first row of each block and its coarse scores, a tensor [rows, Q]."""
    import torch

    asked = torch.from_numpy(np.ascontiguousarray(queries.T))
    if coarse is not None:
        asked = asked.bfloat16()
    for start in range(0, len(keys), BLOCK):
        stop = start + BLOCK
        yield start, coarse[start:stop] @ asked if coarse is not None else _tensor(keys[start:stop]).float() @ asked


def _tensor(block: F16) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # a mapped file; nothing writes to it
        return torch.from_numpy(np.ascontiguousarray(block))


def _keep(scores: Any, start: int, best: F64, slack: F64, kept: list[list[I64]]) -> None:
    """Add the rows of a block that may be among the best, and raise the bar: the k-th best coarse score so far."""
    rows, queries = scores.shape
    grouped = _grouped(scores)
    top = grouped.amax(dim=1).float().numpy()
    k = best.shape[1]
    for q in range(queries):
        bar = best[q, -1] - slack[q]
        groups = np.flatnonzero(top[:, q] >= bar)
        if not len(groups):
            continue
        value = grouped[groups, :, q].float().numpy()
        if len(groups) > k:  # the k-th largest of the groups' best is a bar too
            bar = max(bar, float(np.partition(top[groups, q], -k)[-k]) - slack[q])
        group, place = np.nonzero(value >= bar)
        row, value = groups[group] * GROUP + place, value[group, place]
        row, value = row[row < rows], value[row < rows]
        best[q] = np.sort(np.concatenate([best[q], value]))[::-1][:k]
        kept[q].append(row[value >= best[q, -1] - slack[q]].astype(np.int64) + start)


def _grouped(scores: Any) -> Any:
    """Return scores as [groups, GROUP, Q], the last group filled up with the least there is."""
    import torch

    missing = -len(scores) % GROUP
    if missing:
        scores = torch.nn.functional.pad(scores, (0, 0, 0, missing), value=float("-inf"))
    return scores.view(-1, GROUP, scores.shape[1])


def _exactly(keys: F16, queries: F32, k: int, kept: list[list[I64]]) -> Found:
    rows, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf)
    for q, parts in enumerate(kept):
        if not parts:
            continue
        candidates = np.concatenate(parts)
        exact = exact_scores(keys[candidates], queries[q])
        order = np.lexsort((candidates, -exact))[:k]
        rows[q, : len(order)], scores[q, : len(order)] = candidates[order], exact[order]
    return Found(rows, scores)


def exact_scores(keys: F16, query: F32) -> F64:
    """Return the inner products of float16[n, D] with float32[D], float64[n]; each depends on its own row alone."""
    return (keys.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
