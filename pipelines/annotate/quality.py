"""Measures how good an annotator is on a dataset, with every baseline, and keeps the reports in the catalog's table `quality`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from annotators.base import Annotator, Batch, episodes_id, evaluation_of, in_test, is_tuned
from annotators.clips import Needs, evaluation_needs_of
from annotators.device import inference
from annotators.evaluation import QualityReport
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate.member import streams_of
from pipelines.annotate.pictures import clip_bytes, shown, whole_clip
from pipelines.annotate.stage import device_for, gpus_for
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import Shard, open_shard
from pipelines.unit import Output, Unit
from schemas.ids import unit_id
from schemas.tables import TABLES
from transforms.spread import spread

CODE = "1"  # raise when the reports of the same annotator on the same episodes change
MAX_EPISODES = 200
MAX_BYTES = 512 << 20  # decoded pictures of one evaluation


@dataclass(frozen=True, slots=True)
class EvaluateStage:
    """Measure an annotator on every dataset of a selection. Datasets are never pooled: units, rates and robots differ.

    Attributes:
        lake: where the episodes are and the reports go.
        annotator: what to measure.
        what: see `pipelines.selection.choose`.
        max_episodes: measured per dataset, spread evenly; fewer where their pictures would not fit into memory.
        device: where models run.
    """

    lake: Lake
    annotator: Annotator
    what: str = "all"
    max_episodes: int = MAX_EPISODES
    device: str = "auto"
    name: str = "evaluate"

    @property
    def gpus(self) -> int:
        """How many GPUs one unit needs."""
        return gpus_for(self.annotator, self.device)

    def plan(self) -> Sequence[Unit]:
        """One unit per dataset; the episodes measured and the fingerprint are in its name."""
        units = list[Unit]()
        for (dataset,), episodes in choose(self.lake, self.what).episodes.group_by("dataset", maintain_order=True):
            rows = self._picked(episodes)
            inputs = rows.select("episode_id", "content_hash", "shard", "split_group").rows()
            name = unit_id(self.name, inputs, self.annotator.fingerprint(), f"{CODE}.{evaluation_of(self.annotator)}")
            label = f"{self.annotator.name} on {dataset}"
            payload = [list(row) for row in rows.select("episode_id", "shard", "split_group").rows()]
            units.append(Unit(name, self.name, str(dataset), label, payload, 0, rows.height))
        return units

    def work(self, unit: Unit) -> Output:
        """Measure one dataset."""
        device = device_for(self.annotator, self.device)
        batch = self.batch(unit, device)
        reports = measure(self.annotator, batch)
        rows = [self._row(unit, batch, settled(r, self.split_name())) for r in reports]
        schema = pa.schema([f for f in TABLES["quality"].schema if f.name not in ("unit", "committed_ns")])
        table = pa.Table.from_pylist(rows, schema=schema)
        return Output((), {"quality": table}, (), table.num_rows, batch.steps.num_rows)

    def batch(self, unit: Unit, device: str = "cpu") -> Batch:
        """Return a unit's episodes with everything the annotator asks for; episodes whose pictures no longer fit are left out."""
        rows = [(e, open_shard(self.lake, unit.dataset, s), group or e) for e, s, group in unit.payload]
        contract = rows[-1][1].contract
        needs = evaluation_needs_of(self.annotator, contract)
        rows = [rows[n] for n in _fitting([(shard, e) for e, shard, _ in rows], needs)]
        tables = [shard.episode_steps(e) for e, shard, _ in rows]
        columns = [c for c in tables[-1].column_names if all(c in t.column_names for t in tables)]
        steps = pa.concat_tables([t.select(columns).replace_schema_metadata(None) for t in tables]).unify_dictionaries()
        clips = {look.camera: tuple(whole_clip(shard, e, look) for e, shard, _ in rows) for look in needs.looks}
        streams = None
        if needs.streams:
            found = [streams_of(shard.episode_streams(e), needs) for e, shard, _ in rows]
            streams = pa.concat_tables([t.replace_schema_metadata(None) for t in found]).unify_dictionaries()
        return Batch(contract, steps, clips, streams, tuple(group for *_, group in rows), device)

    def split_name(self) -> str:
        """Return what part of the data is measured: everything, or the half an annotator that fits itself to data may not see."""
        return "test" if is_tuned(self.annotator) else "all"

    def _picked(self, episodes: pl.DataFrame) -> pl.DataFrame:
        """Spread the measured episodes evenly; an annotator that is tuned sees both halves and reports on `test`."""
        if is_tuned(self.annotator):
            halves = in_test(split_groups(episodes))
            parts = [episodes.filter(pl.Series(halves == side)) for side in (False, True)]
            return pl.concat([_spread(part, self.max_episodes // 2) for part in parts])
        return _spread(episodes, self.max_episodes)

    def _row(self, unit: Unit, batch: Batch, report: QualityReport) -> dict[str, Any]:
        low, high = report.ci95 or (None, None)
        return {
            "annotator": self.annotator.name, "fingerprint": self.annotator.fingerprint(), "dataset": unit.dataset,
            "metric": report.metric, "split": report.split, "value": report.value, "ci_low": low, "ci_high": high,
            "episodes": report.n_episodes, "rows": report.n_rows, "gate": report.gate, "goal": report.goal,
            "baselines": json.dumps(dict(report.baselines), sort_keys=True, allow_nan=False), "gt_source": report.gt_source,
            "detail": json.dumps(dict(report.detail), sort_keys=True, allow_nan=False, default=str),
            "split_id": episodes_id(batch.episodes), "split_by": _split_by(batch), "version": self.annotator.version,
            "config": json.dumps(self.annotator.settings(), sort_keys=True),
        }  # fmt: skip


def evaluate(
    lake: Lake, annotator: Annotator, what: str = "all", max_episodes: int = MAX_EPISODES
) -> dict[str, tuple[QualityReport, ...]]:
    """Measure an annotator per dataset of a selection and return the reports; nothing is written."""
    stage = EvaluateStage(lake, annotator, what, max_episodes)
    reports: dict[str, tuple[QualityReport, ...]] = {}
    for unit in stage.plan():
        device = device_for(annotator, stage.device)
        found = measure(annotator, stage.batch(unit, device))
        reports[unit.dataset] = tuple(settled(r, stage.split_name()) for r in found)
    return reports


def measure(annotator: Annotator, batch: Batch) -> tuple[QualityReport, ...]:
    """Let an annotator measure itself; a ratio of nothing to nothing is no warning, `settled` says what it means."""
    with inference(batch.device), np.errstate(divide="ignore", invalid="ignore"):
        return annotator.evaluate(batch)


def settled(report: QualityReport, split: str = "all") -> QualityReport:
    """Return a report that says what was measured: its split named, and no verdict where there was nothing to measure."""
    report = replace(report, split=split if report.split == "all" else report.split)
    if report.gate != "not-measurable" and (report.value is None or not np.isfinite(report.value) or not report.n_rows):
        why = f"nothing to measure in {report.n_episodes} episodes (truth: {report.gt_source})"
        return replace(report, value=None, ci95=None, gate="not-measurable", gt_source=why, baselines={})
    baselines = {name: value for name, value in report.baselines.items() if np.isfinite(value)}
    return replace(report, baselines=baselines)


def stored_reports(lake: Lake, annotator: Annotator, datasets: Sequence[str]) -> dict[str, tuple[QualityReport, ...]]:
    """Return what the catalog knows about an annotator's quality, per dataset, by metric."""
    wanted = pl.Series(list(datasets), dtype=pl.String)
    rows = (
        Catalog(lake)
        .latest("quality")
        .filter(
            pl.col("annotator") == annotator.name,
            pl.col("fingerprint") == annotator.fingerprint(),
            pl.col("dataset").is_in(wanted.implode()),
        )
    )
    found: dict[str, list[QualityReport]] = {}
    for row in rows.collect().iter_rows(named=True):
        found.setdefault(row["dataset"], []).append(_report(row))
    return {dataset: tuple(reports) for dataset, reports in found.items()}


def _report(row: dict[str, Any]) -> QualityReport:
    ci95 = None if row["ci_low"] is None else (row["ci_low"], row["ci_high"])
    return QualityReport(
        row["metric"], row["value"], ci95, row["episodes"], row["rows"], row["split"], json.loads(row["baselines"]), row["gate"],
        row["gt_source"], row["goal"], json.loads(row["detail"]),
    )  # fmt: skip


def _spread(episodes: pl.DataFrame, count: int) -> pl.DataFrame:
    if episodes.is_empty():
        return episodes
    return episodes[spread(episodes.height, count).tolist()]


def _split_by(batch: Batch) -> str:
    return "group" if len(set(batch.groups)) < len(batch.episodes) else "episode"


def _fitting(rows: list[tuple[Shard, str]], needs: Needs, limit: int = MAX_BYTES) -> list[int]:
    """Return which episodes to take so that their pictures fit into memory: all, or some spread evenly; at least one."""
    held = sum(clip_bytes(shard, e, look, shown(shard, e, look)) for shard, e in rows for look in needs.looks)
    count = len(rows) if held <= limit else max(len(rows) * limit // held, 1)
    return spread(len(rows), count).tolist()
