"""What any memory is for: how often it finds what is wanted, and candidates near a target."""

from collections.abc import Sequence

import numpy as np

from pipelines.memory.search import F32
from pipelines.memory.store import Memory


def recall_at(memory: Memory, queries: F32, wanted: Sequence[set[str]], k: int, model: str, kind: str | None = None) -> float:
    """Return the share of queries with one of their wanted ids among the `k` nearest."""
    found = memory.ask(queries, k, model, kind)
    hits = [bool(w & {memory.entry(int(r))["id"] for r in rows if r >= 0}) for w, rows in zip(wanted, found.rows, strict=True)]
    return float(np.mean(hits)) if hits else 0.0


def candidates(memory: Memory, target: F32, model: str, k: int, always: Sequence[str] = ()) -> list[str]:
    """Return ids near any target vector, nearest first, for a density ratio to weigh; the ids in `always` (expert data) come first.

    Args:
        memory: what to choose from.
        target: float32[Q, D], vectors of the data one wants more of.
        model: fingerprint of the encoder of both.
        k: neighbours per target vector.
        always: kept whatever their distance.
    """
    found = memory.ask(target, k, model)
    best: dict[int, float] = {}
    for row, score in zip(found.rows.reshape(-1).tolist(), found.scores.reshape(-1).tolist(), strict=True):
        if row >= 0:
            best[row] = max(best.get(row, -np.inf), score)
    near = [memory.entry(row)["id"] for row, _ in sorted(best.items(), key=lambda item: (-item[1], item[0]))]
    first = list(dict.fromkeys(always))
    return first + [i for i in near if i not in set(first)]
