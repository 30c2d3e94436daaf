"""What memories are for: earlier successes as a prior, corrections that apply again, clips of a pose, candidates for a target."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.memory.search import F32
from pipelines.memory.store import Entry, Memory
from schemas.errors import UsageError
from transforms.attempts.tree import Tree, text_of
from transforms.calibration import Calibration

F64 = npt.NDArray[np.float64]
Level = Literal["plan", "skill"]
_SKILL = frozenset(  # words of how to move
    ("left", "right", "up", "down", "forward", "back", "backward", "higher", "lower", "closer", "further", "farther", "slower", "faster",
     "rotate", "turn", "tighter", "gently")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a successful episode, calibrated by progress.

    Attributes:
        id: unique.
        vector: embedding of what is seen at its start.
        episode_id: where it is from.
        start_ns: its start, episode clock.
        end_ns: its end.
        progress: share of the episode done at its start, in [0, 1].
        action: float[A], what was done; a chunk, flattened.
        success: whether the episode succeeded; failures are never remembered.
    """

    id: str
    vector: Any
    episode_id: str
    start_ns: int
    end_ns: int
    progress: float
    action: Any
    success: bool


def success_memory(segments: Sequence[Segment], model: str) -> Memory:
    """Return a memory of the segments of successful episodes.

    Raises:
        UsageError: progress falls within an episode, or nothing succeeded.
    """
    kept = sorted((s for s in segments if s.success), key=lambda s: (s.episode_id, s.start_ns))
    if not kept:
        raise UsageError(f"none of {len(segments)} segments is of a successful episode")
    for a, b in itertools.pairwise(kept):
        if a.episode_id == b.episode_id and b.progress < a.progress:
            raise UsageError(f"progress falls from {a.progress} to {b.progress} in {a.episode_id}; calibrate it first")
    return Memory.of([
        Entry(s.id, s.vector, "success", s.episode_id, s.start_ns, s.end_ns, payload={"progress": s.progress, "action": np.asarray(s.action, float).tolist()})
        for s in kept
    ], model)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prior:
    """What earlier successes suggest.

    Attributes:
        action: float64[A], softmax-weighted mean of their actions.
        progress: weighted mean of their progress.
        confidence: calibrated probability that the nearest one fits, if a calibration was given; else the share of the largest weight.
        entries: ids, nearest first.
    """

    action: F64
    progress: float
    confidence: float
    entries: tuple[str, ...]


def elite_prior(
    memory: Memory, query: F32, model: str, k: int = 8, temperature: float = 0.1, calibration: Calibration | None = None
) -> Prior:
    """Return `sum_i softmax(similarity_i / temperature) a_i` over the `k` nearest successes (Retrieve-then-Steer)."""
    found = memory.ask(query[None], k, model, "success")
    rows = found.rows[0][found.rows[0] >= 0]
    entries = [memory.entry(int(r)) for r in rows]
    score = found.scores[0][: len(rows)] / temperature
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    action = weight @ np.array([e["payload"]["action"] for e in entries])
    progress = float(weight @ np.array([e["payload"]["progress"] for e in entries]))
    sure = calibration.probability(float(found.scores[0][0])) if calibration is not None else float(weight.max())
    return Prior(action, progress, sure, tuple(e["id"] for e in entries))


@dataclass(frozen=True, slots=True)
class CorrectionEvent:
    """A correction somebody gave.

    Attributes:
        node: node of the attempt tree it comes from: every rule cites at least one.
        context: what was going on, in words.
        correction: what was said or shown instead.
        level: `plan` (what to do, constraints) or `skill` (how to move).
    """

    node: str
    context: str
    correction: str
    level: Level


def correction_events(tree: Tree) -> list[CorrectionEvent]:
    """Return the corrections in an attempt tree: nodes of kind `intervention` or `correction` that say something."""
    found = list[CorrectionEvent]()
    for name, row in tree.rows.items():
        if row["kind"] in ("intervention", "correction") and (said := text_of(tree.steps((name,)))):
            before = text_of(tree.steps(tree.path(name)[:-1])) or row["task"] or ""
            found.append(CorrectionEvent(name, before, said, level_of(said)))
    return found


def level_of(correction: str) -> Level:
    """Tell a correction of how to move (directions, speeds, the gripper) from one of what to do (DROC's two levels), by its words."""
    words = set(correction.lower().replace(",", " ").replace(".", " ").split())
    return "skill" if words & _SKILL else "plan"


def correction_memory(events: Sequence[CorrectionEvent], vectors: F32, model: str) -> Memory:
    """Return a memory of corrections, found by their context; `vectors` float32[N, D] embed the contexts."""
    return Memory.of([
        Entry(e.node, v, f"correction.{e.level}", said=e.correction, payload={"context": e.context, "cites": [e.node]})
        for e, v in zip(events, vectors, strict=True)
    ], model)  # fmt: skip


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
