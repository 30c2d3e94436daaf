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

from pipelines.memory.codes import F16, F32, F64, Codes
from schemas.errors import UsageError

I64 = npt.NDArray[np.int64]
BLOCK = 1 << 15  # rows at once: their scores stay in the cache
GROUP = 64  # rows of which only the largest score is looked at first
QUESTIONS = 64  # asked at once
PENDING = 1 << 20  # candidates from which the bar is measured anew
_NOTHING = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest rows of each query, best first; -1 and -inf where there are fewer.

    Attributes:
        rows: int64[Q, k].
        scores: float64[Q, k].
    """

    rows: I64
    scores: F64


def nearest(keys: F16, queries: F32, k: int, longest: float | None = None, codes: Codes | None = None) -> Found:
    """Return the `k` rows with the largest inner product with each query.

    Args:
        keys: float16[N, D], may be memory-mapped.
        queries: float32[Q, D].
        k: how many, at least 1.
        longest: largest Euclidean length of a key, where it is known; else it is measured.
        codes: what `pipelines.memory.codes.encode` made of the keys, where many questions are asked; without them blocks are widened
            again for each.

    Raises:
        UsageError: widths differ, `k` is not positive, or a query is not finite.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise UsageError(f"queries are {queries.shape} and keys {keys.shape}; both must be [n, D] with the same D")
    if k < 1 or not np.isfinite(queries).all():
        raise UsageError(f"k={k} must be at least 1 and every query finite")
    if codes is None and longest is None:
        longest = lengths(keys)
    rows, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf)
    for start in range(0, len(queries), QUESTIONS):
        asked = queries[start : start + QUESTIONS]
        off, blocks = codes.scores(asked) if codes is not None else _widened(keys, asked, longest or 0.0)
        for q, near in enumerate(_candidates(blocks, 2 * off, k), start):
            exact = exact_scores(keys[near], queries[q])
            order = np.lexsort((near, -exact))[:k]
            rows[q, : len(order)], scores[q, : len(order)] = near[order], exact[order]
    return Found(rows, scores)


def lengths(keys: F16) -> float:
    """Return the largest Euclidean length of a row."""
    blocks = (keys[a : a + BLOCK].astype(np.float32) for a in range(0, len(keys), BLOCK))
    return max((float(np.linalg.norm(b, axis=1).max()) for b in blocks), default=0.0)


def exact_scores(keys: F16, query: F32) -> F64:
    """Return the inner products of float16[n, D] with float32[D], float64[n]; each depends on its own row alone."""
    return (keys.astype(np.float64) * query.astype(np.float64)).sum(axis=1)


def _widened(keys: F16, queries: F32, longest: float) -> tuple[F64, Iterator[tuple[int, Any]]]:
    """Score keys in float32; returns what `Codes.scores` does, in units of each query's largest number."""
    largest = np.abs(queries).max(axis=1, keepdims=True, initial=0.0).astype(np.float64)
    asked = queries / np.where(largest > 0, largest, 1.0)
    width, length = keys.shape[1], np.linalg.norm(asked, axis=1) * longest
    return (2 * length + 1) * width * 2.0**-24, _multiplied(keys, asked.astype(np.float32))


def _multiplied(keys: F16, queries: F32) -> Iterator[tuple[int, Any]]:
    import torch

    asked = torch.from_numpy(np.ascontiguousarray(queries))
    for start in range(0, len(keys), BLOCK):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # a mapped file; nothing writes to it
            block = torch.from_numpy(np.ascontiguousarray(keys[start : start + BLOCK]))
        yield start, asked @ block.float().T


def _candidates(blocks: Iterator[tuple[int, Any]], slack: F64, k: int) -> Iterator[I64]:
    """Yield for every query the rows that may be among its `k` best: their score is not below the k-th best less `slack`."""
    best = np.full((len(slack), k), -np.inf, np.float32)  # the best of as many groups; each is a score of another row
    bar, found = np.full(len(slack), -np.inf), list[tuple[I64, I64, F32]]()
    for start, scores in blocks:
        grouped = _grouped(scores)
        top = grouped.amax(dim=1).numpy()
        best = np.partition(np.concatenate([best, top], axis=1), -k, axis=1)[:, -k:]
        bar = np.maximum(bar, best.min(axis=1) - slack)
        query, group = np.nonzero(top >= bar[:, None])
        value = grouped.numpy()[query, :, group]
        at, place = np.nonzero(value >= bar[query, None])
        row = place * top.shape[1] + group[at]
        real = row < scores.shape[1]
        found.append((query[at][real], row[real] + start, value[at, place][real]))
        if sum(len(q) for q, _, _ in found) > PENDING:
            bar, found = _pruned(found, bar, slack, k)
    _, found = _pruned(found, bar, slack, k)
    query, row, _ = found[0]
    yield from np.split(row, np.searchsorted(query, np.arange(1, len(slack))))


def _grouped(scores: Any) -> Any:
    """Return scores [Q, rows] as [Q, GROUP, groups], filled up with the least there is; neighbouring rows are in different groups."""
    import torch

    missing = -scores.shape[1] % GROUP
    if missing:
        scores = torch.nn.functional.pad(scores, (0, missing), value=float("-inf"))
    return scores.reshape(len(scores), GROUP, -1)


def _pruned(found: list[tuple[I64, I64, F32]], bar: F64, slack: F64, k: int) -> tuple[F64, list[tuple[I64, I64, F32]]]:
    """Raise the bar to the k-th best candidate of each query, and keep what reaches it, by query."""
    query, row, value = _NOTHING
    if found:
        query, row = np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])
        value = np.concatenate([f[2] for f in found])
    order = np.lexsort((-value, query))
    query, row, value = query[order], row[order], value[order]
    edges = np.searchsorted(query, np.arange(len(bar) + 1))
    full = np.flatnonzero(np.diff(edges) >= k)
    bar[full] = np.maximum(bar[full], value[edges[full] + k - 1] - slack[full])
    kept = value >= bar[query]
    return bar, [(query[kept], row[kept], value[kept])]
