"""Exact nearest vectors by inner product: the same answer as brute force in float64, ties by row.

A first pass in low precision keeps whatever could still be among the best, given how far that precision can be off; only those few are
compared exactly. So the result does not depend on blocks, threads or the machine.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
BLOCK = 1 << 16  # rows at once: their scores stay in the cache
HALF = 2.0**-11  # relative rounding of float16


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest rows of each query, best first; -1 and -inf where there are fewer.

    Attributes:
        rows: int64[Q, k].
        scores: float64[Q, k].
    """

    rows: I64
    scores: F64


def nearest(keys: F16, queries: F32, k: int, longest: float | None = None) -> Found:
    """Return the `k` rows with the largest inner product with each query.

    Args:
        keys: float16[N, D], may be memory-mapped.
        queries: float32[Q, D].
        k: how many, at least 1.
        longest: largest Euclidean length of a key, where it is known; else it is measured.

    Raises:
        UsageError: widths differ, `k` is not positive, or a query is not finite.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise UsageError(f"queries are {queries.shape} and keys {keys.shape}; both must be [n, D] with the same D")
    if k < 1 or not np.isfinite(queries).all():
        raise UsageError(f"k={k} must be at least 1 and every query finite")
    norm = longest if longest is not None else lengths(keys)
    slack = 2 * _error(queries, keys.shape[1], norm)
    kept: list[list[I64]] = [[] for _ in queries]
    floor = np.full(len(queries), -np.inf)
    best = np.full((len(queries), k), -np.inf)
    score = _scorer(queries)
    for start in range(0, len(keys), BLOCK):
        coarse = score(keys[start : start + BLOCK])
        _keep(coarse, start, k, floor, best, slack, kept)
    return _exactly(keys, queries, k, kept)


def lengths(keys: F16) -> float:
    """Return the largest Euclidean length of a row."""
    return max(
        (float(np.linalg.norm(keys[a : a + BLOCK].astype(np.float32), axis=1).max()) for a in range(0, len(keys), BLOCK)),
        default=0.0,
    )


def _error(queries: F32, width: int, longest: float) -> F64:
    """How far a coarse score can be off: the query and the score are rounded to float16, and sums are in float32."""
    length = np.linalg.norm(queries.astype(np.float64), axis=1) * longest
    return length * (2.5 * HALF + width * 2.0**-24) + width * 2.0**-24


def _scorer(queries: F32) -> Callable[[F16], Any]:
    """Return a function from a block of keys to float scores [n, Q] in a tensor."""
    import torch

    half = torch.from_numpy(np.ascontiguousarray(queries.astype(np.float16).T))

    def score(block: F16) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # a mapped file; nothing writes to it
            return torch.from_numpy(np.ascontiguousarray(block)) @ half

    return score


def _keep(coarse: Any, start: int, k: int, floor: F64, best: F64, slack: F64, kept: list[list[I64]]) -> None:
    """Add the rows of a block that may be among the best, and raise the bar."""
    import torch

    bar = torch.from_numpy((floor - slack).astype(np.float32))
    row, query = (x.numpy() for x in torch.nonzero(coarse.float() >= bar, as_tuple=True))
    if not len(row):
        return
    value = coarse[torch.from_numpy(row), torch.from_numpy(query)].float().numpy().astype(np.float64)
    for q in np.unique(query):
        mine = query == q
        best[q] = np.sort(np.concatenate([best[q], value[mine]]))[::-1][:k]
        floor[q] = best[q, -1]
        rows = row[mine][value[mine] >= floor[q] - slack[q]]
        kept[q].append(rows.astype(np.int64) + start)


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
