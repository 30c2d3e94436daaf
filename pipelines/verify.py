"""The verify stage: re-reads finished exports with the formats' own readers and compares them with the lake."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.export import ExportPlan, build_job
from pipelines.exporters.base import VerifyReport
from pipelines.exporters.destination import Destination
from pipelines.exporters.registry import EXPORTERS
from pipelines.unit import Output, Unit
from schemas.errors import UsageError, VerificationError
from schemas.ids import unit_id

CODE = "1"
SHOWN = 5  # differences quoted in the error


@dataclass(frozen=True, slots=True)
class VerifyStage:
    """Verify every export at or below `out`.

    Attributes:
        lake: the lake they were exported from.
        out: an exported dataset's folder, or the folder several were exported to.
        every: compare every n-th frame; steps are all compared.
    """

    lake: Lake
    out: str
    every: int = 10
    name: str = "verify"

    def plan(self) -> Sequence[Unit]:
        """One unit per published folder; verified once, unless the folder's content changes."""
        root = Destination.below(self.out, "").uri.rstrip("/")
        known = pl.col("format").is_in(EXPORTERS.names())  # triplets have no episodes to compare
        rows = Catalog(self.lake).latest("publications").filter(known).collect()
        below = rows.filter((pl.col("uri") == root) | pl.col("uri").str.starts_with(f"{root}/"))
        if below.is_empty():
            known = ", ".join(rows["uri"].to_list()) or "none"
            raise UsageError(f"the lake {self.lake.root} knows no export at {root}; it knows {known}")
        units: list[Unit] = []
        for row in below.sort("uri").iter_rows(named=True):
            if not Destination(row["uri"]).is_current(row["content_hash"]):
                raise UsageError(f"{row['uri']} is gone or no longer what was exported; export it again")
            inputs = [row["uri"], row["content_hash"], self.every]
            name = unit_id(self.name, inputs, None, CODE)
            dataset = Path(row["uri"]).name
            units.append(Unit(name, self.name, dataset, row["uri"], row, row["bytes"], row["episodes"]))
        return units

    def work(self, unit: Unit) -> Output:
        """Compare one export.

        Raises:
            VerificationError: something differs; the message quotes the first differences.
        """
        row: dict[str, Any] = unit.payload
        earlier = json.loads(row["report"])
        plan = ExportPlan.from_json(json.dumps(earlier["plan"]))
        exporter = EXPORTERS.load(plan.format)()
        with Destination(row["uri"]).local() as folder:
            found: VerifyReport = exporter.verify(folder, build_job(self.lake, plan, folder), every=self.every)
        if not found.ok:
            some = "\n  ".join(found.differences[:SHOWN])
            raise VerificationError(f"{row['uri']} differs from the lake in {len(found.differences)} places, first:\n  {some}")
        report = json.dumps(earlier | {"verify": asdict(found)}, default=str)
        kept = {k: v for k, v in row.items() if k not in ("unit", "committed_ns", "verified", "report")}
        table = pa.Table.from_pylist([kept | {"verified": True, "report": report}])
        return Output((), {"publications": table}, (), found.steps_compared, found.frames_compared, 0)
