"""The annotate stage: one side table per (annotator fingerprint, shard), checked before it is published.

A unit is a whole shard, whichever of its episodes were asked for: the file then depends on shard and fingerprint alone, and a
narrower selection never replaces what a wider one wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from annotators.base import Annotator, Batch
from annotators.check import check_output, covered
from annotators.evaluation import QualityReport
from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.publish import publish, temporary_for
from pipelines.selection import choose
from pipelines.shards.reader import open_shard
from pipelines.unit import Output, Unit
from schemas.errors import DataError
from schemas.ids import unit_id

CODE = "1"  # raise when the side tables written for the same input and fingerprint change


@dataclass(frozen=True, slots=True)
class AnnotateStage:
    """Annotate every shard that holds a chosen episode.

    Attributes:
        lake: where shards are and side tables go.
        annotator: what to run.
        what: see `pipelines.selection.choose`: `all`, a dataset, a mixture, a condition or a SELECT.
    """

    lake: Lake
    annotator: Annotator
    what: str = "all"
    name: str = "annotate"

    @classmethod
    def named(cls, lake: Lake, name: str, what: str = "all", settings: Mapping[str, Any] | None = None) -> Self:
        """Build the stage for an annotator by its name and `--set` settings.

        Raises:
            UnknownNameError: no annotator has that name.
            UsageError: a setting is unknown or has the wrong type.
        """
        return cls(lake, open_annotator(name, settings), what)

    def plan(self) -> Sequence[Unit]:
        """One unit per shard, in catalog order."""
        catalog = Catalog(self.lake)
        chosen = choose(self.lake, self.what).episodes.select("dataset", "shard").unique().sort("dataset", "shard")
        held = catalog.scan("episodes").select("shard", "episode_id", "content_hash").unique()
        contents = held.sort("shard", "episode_id").group_by("shard", maintain_order=True).agg("content_hash", "episode_id")
        sizes = catalog.latest("shards").filter(pl.col("kind") == "steps").select("shard", "bytes")
        rows = (
            chosen.lazy()
            .join(contents, on="shard", how="left")
            .join(sizes, on="shard", how="left")
            .sort("dataset", "shard")
            .collect()
        )
        fingerprint, units = self.annotator.fingerprint(), list[Unit]()
        for row in rows.iter_rows(named=True):
            episodes = len(set(row["episode_id"]))
            name = unit_id(self.name, [row["shard"], row["content_hash"]], fingerprint, CODE)
            label = f"{self.annotator.name}: {row['dataset']}/{row['shard']}"
            units.append(Unit(name, self.name, row["dataset"], label, row["shard"], row["bytes"] or 0, episodes))
        return units

    def work(self, unit: Unit) -> Output:
        """Annotate one shard.

        Raises:
            AnnotatorError: the annotator broke its contract; nothing is published.
        """
        shard = open_shard(self.lake, unit.dataset, unit.payload)
        batch = Batch(shard.contract, shard.steps)
        try:
            rows = check_output(self.annotator, batch, self.annotator.run(batch))
        except DataError as error:
            error.uri = error.uri or self.lake.shard(unit.dataset, unit.payload, "steps")
            raise
        fingerprint = self.annotator.fingerprint()
        target = self.lake.annotation(self.annotator.name, fingerprint, unit.payload)
        with temporary_for(self.lake, target) as path:
            pq.write_table(rows, path, compression="zstd", row_group_size=1 << 20)
            file = publish(self.lake, path, target)
        valid = rows.filter(rows.column("valid"))
        coverage = float(np.mean(covered(batch, valid))) if batch.steps.num_rows else 0.0
        row = {
            "annotator": self.annotator.name, "fingerprint": fingerprint, "shard": unit.payload, "dataset": unit.dataset, "uri": file.path,
            "blake3": file.blake3, "rows": rows.num_rows, "valid_rows": valid.num_rows, "episodes": len(batch.episodes),
            "coverage": coverage, "bytes": file.bytes,
            "config": json.dumps({"version": self.annotator.version, **self.annotator.settings()}, sort_keys=True),
        }  # fmt: skip
        return Output((file,), {"annotations": pa.Table.from_pylist([row])}, (), rows.num_rows, batch.steps.num_rows, file.bytes)


def evaluate(
    lake: Lake, annotator: Annotator, what: str = "all", max_episodes: int = 200
) -> dict[str, tuple[QualityReport, ...]]:
    """Measure an annotator per dataset of a selection, on at most `max_episodes` episodes of each, spread evenly.

    Nothing is written. Datasets are never pooled: units, rates and robots differ.
    """
    reports: dict[str, tuple[QualityReport, ...]] = {}
    for (dataset,), episodes in choose(lake, what).episodes.group_by("dataset", maintain_order=True):
        picked = np.unique(np.linspace(0, episodes.height - 1, min(max_episodes, episodes.height)).astype(int))
        rows = episodes[picked.tolist()]
        shards = [open_shard(lake, str(dataset), s) for s in rows["shard"]]
        tables = [shard.episode_steps(e) for shard, e in zip(shards, rows["episode_id"], strict=True)]
        contract = shards[-1].contract
        columns = [c for c in tables[-1].column_names if all(c in t.column_names for t in tables)]
        steps = pa.concat_tables([t.select(columns).replace_schema_metadata(None) for t in tables]).unify_dictionaries()
        reports[str(dataset)] = annotator.evaluate(Batch(contract, steps))
    return reports
