"""Earlier successes as a prior: stretches of successful episodes with their progress, found by what is seen (Retrieve-then-Steer)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from annotators.embeddings.embedding import Embedding
from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.memory.search import F32
from pipelines.memory.store import Entry, Memory
from pipelines.proprioception import actions, matrix
from pipelines.selection import choose
from pipelines.shards.reader import Shard, open_shard
from schemas.errors import UsageError
from schemas.ids import short_id
from transforms.calibration import Calibration

F64 = npt.NDArray[np.float64]


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


def success_segments(
    lake: Lake,
    what: str = "all",
    settings: Mapping[str, Any] | None = None,
    chunk_s: float = 1.0,
    points: int = 8,
    camera: str = "",
) -> list[Segment]:
    """Return the stretches of a selection's episodes that `embedding` has pictures of, with what was done in each.

    Args:
        lake: where they are.
        what: see `pipelines.selection.choose`.
        settings: of the annotator `embedding`, as it was run.
        chunk_s: length of a stretch; those that do not end inside their episode are left out.
        points: actions per stretch, evenly over it, each held until the next: the same number at every control rate.
        camera: whose pictures; empty: all.

    Raises:
        UsageError: nothing selected is embedded with these settings, or no episode knows whether it succeeded.
    """
    annotator: Any = open_annotator("embedding", dict(settings or {}))
    chosen = choose(lake, what).episodes.filter(pl.col("success").is_not_null())
    rows = read_annotations(Catalog(lake), Embedding.name, chosen, annotator.fingerprint())
    if rows.is_empty():
        raise UsageError(
            f"{what!r}: no episode that knows whether it succeeded is embedded; run `cotrain annotate --with embedding` first"
        )
    rows = rows.filter(pl.col("valid") & (pl.col("kind") == "picture") & ((pl.col("camera") == camera) | pl.lit(not camera)))
    facts = {e: (d, s, won) for e, d, s, won in chosen.select("episode_id", "dataset", "shard", "success").iter_rows()}
    found = list[Segment]()
    for (episode,), mine in rows.group_by(["episode_id"], maintain_order=True):
        dataset, shard, won = facts[str(episode)]
        found += _segments(open_shard(lake, dataset, shard), str(episode), mine, won, chunk_s, points)
    return found


def _segments(shard: Shard, episode: str, rows: pl.DataFrame, won: bool, chunk_s: float, points: int) -> list[Segment]:
    steps = shard.episode_steps(episode)
    t, done = steps.column("t_ns").to_numpy(), matrix(steps, actions(shard.contract))
    offsets, length = np.rint(np.arange(points) * (chunk_s / points) * 1e9).astype(np.int64), round(chunk_s * 1e9)
    found = list[Segment]()
    for start, camera, vector in rows.select("start_ns", "camera", "vector").iter_rows():
        if start + length > t[-1]:
            continue
        at = np.searchsorted(t, start + offsets, side="right") - 1
        progress = float((start - t[0]) / max(t[-1] - t[0], 1))
        name = short_id("s", [episode, start, camera])
        found.append(Segment(name, vector, episode, start, start + length, progress, done[at].reshape(-1), won))
    return found
