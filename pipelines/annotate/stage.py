"""The annotate stage: one side table per (annotator fingerprint, shard), checked before it is published.

A unit is a whole shard, whichever of its episodes were asked for: the file then depends on shard and fingerprint alone, and a
narrower selection never replaces what a wider one wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from annotators.base import Annotator, Batch, uses_gpu
from annotators.check import covered
from annotators.clips import needs_of
from annotators.device import check_name, choose_device
from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate.engine import annotate_shard
from pipelines.annotate.member import Annotated
from pipelines.annotate.prepare import prepared
from pipelines.publish import publish, temporary_for
from pipelines.selection import choose
from pipelines.shards.reader import Shard, open_shard
from pipelines.unit import MARKER, Output, Unit
from pipelines.unit.receipt import write_receipt
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
        device: where models run: `auto`, `cpu`, `cuda` or `cuda:<number>`; chosen where the work is done, and not in the fingerprint.
        threads: that decode pictures ahead; None uses the cores there are.
        beside: annotators that will be run on the same shards next. Those that look at the same cameras as this one share its pass over
            the pictures: their side tables are written with it, and their own stages only commit them.
    """

    lake: Lake
    annotator: Annotator
    what: str = "all"
    name: str = "annotate"
    device: str = "auto"
    threads: int | None = None
    beside: tuple[Annotator, ...] = ()

    @classmethod
    def named(
        cls, lake: Lake, name: str, what: str = "all", settings: Mapping[str, Any] | None = None, device: str = "auto"
    ) -> Self:
        """Build the stage for an annotator by its name and `--set` settings.

        Raises:
            UnknownNameError: no annotator has that name.
            UsageError: a setting is unknown or has the wrong type.
        """
        return cls(lake, open_annotator(name, prepared(lake, name, what, settings or {})), what, device=device)

    @property
    def gpus(self) -> int:
        """How many GPUs one unit needs."""
        return gpus_for(self.annotator, self.device)

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
        units, prints = list[Unit](), [a.fingerprint() for a in (self.annotator, *self.beside)]
        for row in rows.iter_rows(named=True):
            inputs, episodes = [row["shard"], row["content_hash"]], len(set(row["episode_id"]))
            ids = [unit_id(self.name, inputs, fingerprint, CODE) for fingerprint in prints]
            label = f"{self.annotator.name}: {row['dataset']}/{row['shard']}"
            units.append(Unit(ids[0], self.name, row["dataset"], label, (row["shard"], ids[1:]), row["bytes"] or 0, episodes))
        return units

    def work(self, unit: Unit) -> Output:
        """Annotate one shard, and what runs beside as far as it looks at the same pictures.

        Raises:
            AnnotatorError: the annotator broke its contract; nothing is published.
        """
        shard, device = open_shard(self.lake, unit.dataset, unit.payload[0]), device_for(self.annotator, self.device)
        companions = self._companions(unit, shard)
        annotators = [self.annotator, *(stage.annotator for stage, _ in companions)]
        result, *others = annotate_shard(annotators, shard, device, self.threads)
        for (stage, theirs), found in zip(companions, others, strict=True):
            if found.error is None:  # else its own unit finds out again, and says so
                write_receipt(self.lake, theirs, stage.publish(theirs, shard, found))
        if result.error is not None:
            if isinstance(result.error, DataError):
                result.error.uri = result.error.uri or self.lake.shard(unit.dataset, shard.shard, "steps")
            raise result.error
        return self.publish(unit, shard, result)

    def _companions(self, unit: Unit, shard: Shard) -> list[tuple["AnnotateStage", Unit]]:
        """Return the stages and open units of those beside that share a look with this annotator."""
        looks, catalog = set(needs_of(self.annotator, shard.contract).looks), Catalog(self.lake)
        found = list[tuple[AnnotateStage, Unit]]()
        for annotator, name in zip(self.beside, unit.payload[1], strict=True):
            alike = looks & set(needs_of(annotator, shard.contract).looks)
            if alike and uses_gpu(annotator) == uses_gpu(self.annotator) and not catalog.committed(MARKER, name):
                stage = replace(self, annotator=annotator, beside=())
                label = f"{annotator.name}: {unit.dataset}/{shard.shard}"
                found.append((stage, replace(unit, id=name, label=label, payload=(shard.shard, []))))
        return found

    def publish(self, unit: Unit, shard: Shard, result: Annotated) -> Output:
        """Give the side table its name in the lake, and say what there is to commit."""
        rows, fingerprint, batch = result.rows, self.annotator.fingerprint(), Batch(shard.contract, shard.steps)
        assert rows is not None
        target = self.lake.annotation(self.annotator.name, fingerprint, shard.shard)
        with temporary_for(self.lake, target) as path:
            pq.write_table(rows, path, compression="zstd", row_group_size=1 << 20)
            file = publish(self.lake, path, target)
        valid = rows.filter(rows.column("valid"))
        coverage = float(np.mean(covered(batch, valid))) if batch.steps.num_rows else 0.0
        row = {
            "annotator": self.annotator.name, "fingerprint": fingerprint, "shard": shard.shard, "dataset": unit.dataset, "uri": file.path,
            "blake3": file.blake3, "rows": rows.num_rows, "valid_rows": valid.num_rows, "episodes": len(batch.episodes),
            "coverage": coverage, "bytes": file.bytes,
            "config": json.dumps({"version": self.annotator.version, **self.annotator.settings()}, sort_keys=True),
        }  # fmt: skip
        frames = result.pictures or batch.steps.num_rows
        measures = result.effort.columns() if result.effort else {}
        tables = {"annotations": pa.Table.from_pylist([row])}
        return Output((file,), tables, result.rejects, rows.num_rows, frames, file.bytes, measures)


def gpus_for(annotator: Annotator, wanted: str) -> int:
    """Return how many GPUs a unit needs. One asked for by name may be another machine's: workers say whether they have one."""
    return int(uses_gpu(annotator) and (wanted.startswith("cuda") or choose_device(wanted) != "cpu"))


def device_for(annotator: Annotator, wanted: str) -> str:
    """Return where an annotator runs on this machine: on the CPU, unless it has a use for a GPU.

    Raises:
        UsageError: the name is unknown, or a GPU is asked for where there is none.
    """
    check_name(wanted)
    return choose_device(wanted) if uses_gpu(annotator) else "cpu"
