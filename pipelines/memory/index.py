"""An approximate index for memories too large to scan: inverted lists of FAISS, reordered exactly."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.memory.search import F16, F32, Found, exact_scores
from schemas.errors import UsageError

SAMPLE_PER_LIST = 64  # vectors a list's centre is trained on


@dataclass(frozen=True)
class Index:
    """Inverted lists over the rows of a memory; build it with `build_index`."""

    keys: F16
    lists: Any

    def ask(self, queries: F32, k: int, probes: int = 16, depth: int = 10) -> Found:
        """Return about the `k` nearest rows: `depth * k` candidates from `probes` lists, reordered by exact score, ties by row."""
        self.lists.nprobe = probes
        _, candidates = self.lists.search(np.ascontiguousarray(queries, np.float32), depth * k)
        rows, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf)
        for q, near in enumerate(candidates):
            found = np.unique(near[near >= 0])
            exact = exact_scores(self.keys[found], queries[q])
            order = np.lexsort((found, -exact))[:k]
            rows[q, : len(order)], scores[q, : len(order)] = found[order], exact[order]
        return Found(rows, scores)


def build_index(keys: F16, lists: int | None = None, block: int = 1 << 16) -> Index:
    """Train and fill inverted lists with float16 codes.

    Args:
        keys: float16[N, D], may be mapped.
        lists: how many; None: about 4 sqrt(N).
        block: rows added at once.

    Raises:
        UsageError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UsageError("an index needs faiss: pip install 'cotrain[index]'") from error
    count = lists or max(int(4 * len(keys) ** 0.5), 1)
    width = keys.shape[1]
    made: Any = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, count, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    stride = max(len(keys) // (count * SAMPLE_PER_LIST), 1)
    made.train(np.ascontiguousarray(keys[::stride], np.float32))
    for start in range(0, len(keys), block):
        made.add(np.ascontiguousarray(keys[start : start + block], np.float32))
    return Index(keys, made)
