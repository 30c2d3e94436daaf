"""Which reasoning texts an episode can do without: the pruning of `transforms.pruning`, over a lake's episodes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import language_rows, segment_starts
from pipelines.audit.ledger import Finding
from pipelines.proprioception import actions, matrix, states
from pipelines.shards.reader import Shard, open_shard
from schemas.contract import Contract
from transforms.columns import feature_array
from transforms.embedding import embed
from transforms.pruning import PruneConfig, keep_reasoning

F64 = npt.NDArray[np.float64]
BOOL = npt.NDArray[np.bool_]
STYLES = ("rationale", "subtask", "plan", "memory", "motion")
PICTURES_HZ = 5.0  # events are looked for at this rate
AHEAD_S = 0.4
GRIPPER_CHANGE = 0.5  # of its own range within one step


@dataclass(frozen=True, slots=True)
class ReasoningAudit:
    """Scores spans with 1 where reasoning is kept and 0 where it is redundant.

    Attributes:
        retention: see `transforms.pruning.PruneConfig`.
        apart_s: see there.
    """

    retention: float = 0.25
    apart_s: float = 0.2

    def run(self, lake: Lake, episodes: pl.DataFrame) -> tuple[list[Finding], pl.DataFrame]:
        """Choose the steps of every episode that keep their texts; report how much text is left."""
        catalog, config = Catalog(lake), PruneConfig(self.retention, self.apart_s)
        texts, segments = language_rows(catalog, episodes), segment_starts(catalog, episodes)
        spans, before, after, steps, kept_steps = list[tuple[str, int, int, float]](), 0, 0, 0, 0
        for row in episodes.iter_rows(named=True):
            shard = open_shard(lake, row["dataset"], row["shard"])
            if not actions(shard.contract):
                continue
            t_ns, keep = choose_steps(shard, row["episode_id"], segments.get(row["episode_id"], []), config)
            spans += _runs(row["episode_id"], t_ns, keep)
            steps, kept_steps = steps + len(keep), kept_steps + int(keep.sum())
            for told in texts.get(row["episode_id"], ()):
                if told.style in STYLES:
                    tokens = len(told.text.split())
                    before += tokens
                    at = int(np.clip(np.searchsorted(t_ns, told.start_ns, side="right") - 1, 0, len(keep) - 1))
                    after += tokens * int(keep[at])
        columns = ["episode_id", "start_ns", "end_ns", "value"]
        scores = pl.DataFrame(
            spans, schema=dict(zip(columns, (pl.String, pl.Int64, pl.Int64, pl.Float64), strict=True)), orient="row"
        )
        return [_finding(episodes.height, before, after, steps, kept_steps)], scores


def choose_steps(shard: Shard, episode: str, boundaries: list[int], config: PruneConfig) -> tuple[npt.NDArray[np.int64], BOOL]:
    """Return the step times int64[T] of an episode and which steps keep their reasoning, bool[T].

    `boundaries` are the starts of its segments in nanoseconds; without any, every two seconds make one.
    """
    steps = shard.episode_steps(episode)
    t_ns = steps.column("t_ns").to_numpy()
    t_s = (t_ns - t_ns[0]) * 1e-9
    edges = np.asarray(boundaries, np.int64) if boundaries else t_ns[0] + np.arange(1, int(t_s[-1] // 2) + 1) * 2_000_000_000
    segment = np.searchsorted(edges, t_ns, side="right")
    action = np.nan_to_num(matrix(steps, actions(shard.contract)))
    return t_ns, keep_reasoning(
        t_s, _event(shard, episode, t_s), _acceleration(action, t_s), grips(steps, shard.contract), segment, config
    )


def grips(steps: pa.Table, contract: Contract) -> BOOL:
    """Return bool[T]: steps at which a gripper command changes by more than half its range."""
    flips = np.zeros(steps.num_rows, np.bool_)
    for feature in actions(contract):
        values = feature_array(steps, feature).reshape(steps.num_rows, -1)
        columns = [i for p in feature.parts if p.role == "gripper" for i in range(p.start, p.stop)]
        columns = columns or [i for i, n in enumerate(feature.names) if "gripper" in n and i < values.shape[1]]
        for i in columns:
            spread = np.ptp(values[:, i])
            if spread > 0:
                flips[1:] |= np.abs(np.diff(values[:, i])) > GRIPPER_CHANGE * spread
    return flips


def _event(shard: Shard, episode: str, t_s: F64) -> F64:
    """How much what is seen changes within `AHEAD_S` of each step: embedding distance, or that of proprioception without a camera."""
    steps, cameras = shard.episode_steps(episode), shard.cameras(episode)
    at = np.arange(0.0, t_s[-1] + 1e-9, 1 / PICTURES_HZ)
    rows = np.searchsorted(t_s, at, side="right") - 1
    if cameras:
        seen = embed(shard.read(episode, cameras[0], np.maximum(steps.column(f"frame.{cameras[0]}").to_numpy()[rows], 0)))
    elif states(shard.contract):
        seen = np.nan_to_num(matrix(steps, states(shard.contract)))[rows]
    else:
        return np.zeros(len(t_s))
    later = np.minimum(np.arange(len(at)) + round(AHEAD_S * PICTURES_HZ), len(at) - 1)
    return np.interp(t_s, at, np.linalg.norm(seen[later] - seen, axis=1))


def _acceleration(action: F64, t_s: F64) -> F64:
    if len(t_s) < 3:
        return np.zeros(len(t_s))
    spread = action.std(axis=0)
    scaled = action / np.where(spread > 1e-12, spread, np.inf)
    return np.linalg.norm(np.gradient(np.gradient(scaled, t_s, axis=0), t_s, axis=0), axis=1)


def _runs(episode: str, t_ns: npt.NDArray[np.int64], keep: BOOL) -> list[tuple[str, int, int, float]]:
    first = np.flatnonzero(np.diff(keep.astype(np.int8), prepend=2))
    ends = [*t_ns[first[1:]].tolist(), int(t_ns[-1]) + 1]
    return [(episode, int(t_ns[a]), int(end), float(keep[a])) for a, end in zip(first, ends, strict=True)]


def _finding(episodes: int, before: int, after: int, steps: int, kept: int) -> Finding:
    detail: dict[str, Any] = {"words_before": before, "words_after": after, "steps": steps, "steps_kept": kept}
    if not before:
        return Finding("reasoning_kept", None, None, episodes, "not-measurable", "no reasoning text on these episodes", detail)
    share = after / before
    text = f"{share:.0%} of {before:,} words of reasoning stay on {kept / max(steps, 1):.0%} of the steps; every action stays"
    return Finding("reasoning_kept", share, None, episodes, "ok", text, detail)
