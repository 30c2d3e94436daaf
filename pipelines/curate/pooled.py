"""The pooled score stage: sharpness against the camera's median, joint outliers, predicted progress; one unit per dataset.

Memory is bounded: models are fitted to a sample of at most 300 steps of at most 400 episodes per task, then episodes are scored one
by one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.curate.scores import PREFIX, VIDEO_HZ, ScoreStage, fingerprint, held_episodes, score_row
from pipelines.curate.subject import read_evidence
from pipelines.shards.reader import open_shard
from pipelines.unit import Output, Unit
from schemas.errors import LakeError
from schemas.ids import unit_id
from transforms.curation.metrics import CODE, METRICS
from transforms.curation.pooled import Progress, Reference, blur, progress_scores
from transforms.curation.score import Score, missing
from transforms.curation.signals import motion_dims
from transforms.grid import SECOND
from transforms.lint.base import Evidence
from transforms.rotation import F64
from transforms.spread import spread

SAMPLE_EPISODES, SAMPLE_STEPS = 400, 300


@dataclass(frozen=True, slots=True)
class PooledScoreStage:
    """Score each dataset of a selection by methods that compare its episodes with each other. Run it after `ScoreStage`."""

    lake: Lake
    what: str = "all"
    methods: tuple[str, ...] = tuple(METRICS)
    video_hz: float = VIDEO_HZ
    name: str = "score-pool"

    def plan(self) -> Sequence[Unit]:
        """One unit per dataset."""
        wanted = tuple(m for m in self.methods if METRICS[m].compute is None)
        if not wanted:
            return []
        before: dict[str, list[str]] = {}
        for unit in ScoreStage(self.lake, self.what, self.methods, self.video_hz).plan():
            before.setdefault(unit.dataset, []).append(unit.id)
        units: list[Unit] = []
        for (dataset,), held in held_episodes(self.lake, self.what).group_by(["dataset"], maintain_order=True):
            earlier = before.get(str(dataset), [])
            inputs = [held.select("episode_id", "content_hash", "split_group", "task").rows(), earlier]
            name = unit_id(self.name, inputs, [fingerprint(m, self.video_hz) for m in wanted], CODE)
            payload = (held, wanted, earlier)
            units.append(Unit(name, self.name, str(dataset), f"score {dataset}: compare", payload, episodes=held.height))
        return units

    def work(self, unit: Unit) -> Output:
        """Score the episodes of one dataset."""
        held, wanted, before = unit.payload
        found: list[tuple[str, str, Score]] = []
        if "blur" in wanted:
            found += [("blur", e, s) for e, s in self._blur(held, before)]
        for method, score in (("consistency", self._consistency), ("progress", self._progress)):
            if method in wanted:
                for _, rows in held.group_by(["task"], maintain_order=True):
                    found += [(method, e, s) for e, s in score(rows)]
        ends = dict(held.select("episode_id", (pl.col("duration_s") * SECOND).cast(pl.Int64)).iter_rows())
        rows = [score_row(m, e, s, ends[e], self.video_hz) for m, e, s in found]
        return Output((), {"scores": pa.Table.from_pylist(rows)}, (), len(rows), int(held["steps"].sum()))

    def _blur(self, held: pl.DataFrame, before: list[str]) -> Iterator[tuple[str, Score]]:
        wanted = pl.Series("unit", before, pl.String)
        rows = Catalog(self.lake).scan("scores").filter(
            pl.col("unit").is_in(wanted.implode()) & (pl.col("method") == f"{PREFIX}sharpness")
        ).collect()  # fmt: skip
        told = {e: json.loads(d or "{}").get("cameras", {}) for e, d in rows.select("episode_id", "detail").iter_rows()}
        if absent := set(held["episode_id"]) - set(told):
            raise LakeError(f"{len(absent)} episodes have no sharpness yet; run `cotrain curate score` without --limit")
        yield from blur({e: told[e] for e in held["episode_id"]}).items()

    def _consistency(self, rows: pl.DataFrame) -> Iterator[tuple[str, Score]]:
        sample = [joint_rows(it) for it in self._sample(rows)]
        widths = {s.shape[1] for s in sample if len(s)}
        reference = Reference.fit(np.concatenate([_thin(s) for s in sample if len(s)])) if len(widths) == 1 else None
        if reference is None:
            why = "too few steps with state and action of one layout in this task"
            yield from ((e, missing(why)) for e in rows["episode_id"])
            return
        for it in self._episodes(rows):
            yield it.row["episode_id"], reference.score(joint_rows(it))

    def _progress(self, rows: pl.DataFrame) -> Iterator[tuple[str, Score]]:
        sample, groups = [state_rows(it) for it in self._sample(rows)], _picked(rows)["split_group"].to_list()
        told = [i for i, s in enumerate(sample) if len(s) > 1]
        widths = {sample[i].shape[1] for i in told}
        model = None
        if len(widths) == 1:
            done = [_thin(np.linspace(0.0, 1.0, len(sample[i]))) for i in told]
            model = Progress.fit([_thin(sample[i]) for i in told], done, [groups[i] for i in told])
        if model is None:
            why = "too few episodes or groups of this task to predict progress from the others"
            yield from ((e, missing(why)) for e in rows["episode_id"])
            return
        gains = [
            model.gain(state, group, _period(it)) if len(state := state_rows(it)) else np.zeros(0)
            for it, group in zip(self._episodes(rows), rows["split_group"], strict=True)
        ]
        yield from zip(rows["episode_id"], progress_scores(gains), strict=True)

    def _sample(self, rows: pl.DataFrame) -> Iterator[Evidence]:
        yield from self._episodes(_picked(rows))

    def _episodes(self, rows: pl.DataFrame) -> Iterator[Evidence]:
        for row in rows.iter_rows(named=True):
            shard = open_shard(self.lake, row["dataset"], row["shard"])
            yield read_evidence(shard, row)


def state_rows(it: Evidence) -> F64:
    """Return what an episode's states say, float64[T, d]; no rows where there is no state."""
    columns = [it.values(f) for f in it.states]
    return np.nan_to_num(np.concatenate(columns, 1)) if columns else np.zeros((0, 0))


def joint_rows(it: Evidence) -> F64:
    """Return (s, a, s' - s) of each step but the last, float64[T - 1, d], grippers left out; no rows without state and action."""
    if it.action is None or not it.states or it.count < 2:
        return np.zeros((0, 0))
    state = np.nan_to_num(np.concatenate([it.values(f)[:, motion_dims(f)] for f in it.states], 1))
    action = np.nan_to_num(it.values(it.action)[:, motion_dims(it.action)])
    return np.concatenate([state[:-1], action[:-1], np.diff(state, axis=0)], 1)


def _picked(rows: pl.DataFrame) -> pl.DataFrame:
    return rows[spread(rows.height, SAMPLE_EPISODES).tolist()]


def _thin(rows: Any) -> Any:
    return rows[:: max(1, len(rows) // SAMPLE_STEPS)]


def _period(it: Evidence) -> float:
    return float(np.median(np.diff(it.t_ns))) / SECOND if it.count > 1 else 1.0
