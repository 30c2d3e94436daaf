"""Builds a memory from the vectors the annotator `embedding` wrote for a selection; once per content."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from annotators.embeddings.embedding import Embedding
from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.memory.store import Entry, to_table, write_memory
from pipelines.selection import choose
from pipelines.unit import Output, Unit
from schemas.errors import UsageError
from schemas.ids import is_slug, short_id, unit_id

CODE = "1"  # raise when the memory made of the same vectors changes


@dataclass(frozen=True, slots=True)
class MemoryStage:
    """Gather the vectors of one kind of a selection.

    Attributes:
        lake: where side tables are and the memory goes.
        memory: its name, a slug.
        kind: `picture` or `text`: the two may lie in different spaces.
        what: see `pipelines.selection.choose`.
        settings: of the annotator `embedding`.
    """

    lake: Lake
    memory: str
    kind: str
    what: str = "all"
    settings: tuple[tuple[str, Any], ...] = ()
    name: str = "memory"

    @property
    def annotator(self) -> Embedding:
        """The annotator whose vectors are gathered."""
        made: Any = open_annotator("embedding", dict(self.settings))
        return made

    def plan(self) -> Sequence[Unit]:
        """Return the single unit; its id depends on the vectors' files.

        Raises:
            UsageError: the name cannot be one, or nothing is embedded yet.
        """
        if not is_slug(self.memory):
            raise UsageError(f"{self.memory!r} cannot name a memory: lower-case letters, digits, '.', '_' and '-'")
        chosen = choose(self.lake, self.what).episodes
        listed = Catalog(self.lake).latest("annotations").filter(
            (pl.col("annotator") == Embedding.name) & (pl.col("fingerprint") == self.annotator.fingerprint())
        )  # fmt: skip
        files = listed.join(chosen.lazy().select("shard").unique(), on="shard").select("shard", "blake3").sort("shard").collect()
        if files.is_empty():
            raise UsageError("nothing selected is embedded with these settings; run `cotrain annotate --with embedding` first")
        content = [files.rows(), chosen["episode_id"].sort().to_list()]
        name = unit_id(self.name, [self.memory, self.kind, content], {}, CODE)
        return [Unit(name, self.name, self.memory, f"memory {self.memory} ({self.kind}) of {self.what}", None, 0, chosen.height)]

    def work(self, unit: Unit) -> Output:
        """Write the memory."""
        chosen = choose(self.lake, self.what).episodes
        fingerprint = self.annotator.fingerprint()
        rows = read_annotations(Catalog(self.lake), Embedding.name, chosen, fingerprint).filter(
            pl.col("valid") & (pl.col("kind") == self.kind)
        )
        facts = {r["episode_id"]: r for r in chosen.select("episode_id", "task", "success", "dataset").iter_rows(named=True)}
        entries = [_entry(row, facts[row["episode_id"]]) for row in rows.iter_rows(named=True)]
        table = to_table(entries, fingerprint)
        file = write_memory(self.lake, table, self.lake.memory(self.memory, unit.id))
        row = {
            "name": self.memory, "kind": self.kind, "model": fingerprint, "of": self.what, "uri": file.path, "blake3": file.blake3, "rows": table.num_rows,
            "bytes": file.bytes, "settings": json.dumps(dict(self.settings), sort_keys=True),
        }  # fmt: skip
        return Output((file,), {"memories": pa.Table.from_pylist([row])}, (), table.num_rows, 0, file.bytes)


def _entry(row: dict[str, Any], facts: dict[str, Any]) -> Entry:
    name = short_id("m", [row["episode_id"], row["start_ns"], row["camera"], row["kind"]])
    payload = {"task": facts["task"], "success": facts["success"], "dataset": facts["dataset"]}
    return Entry(
        name, row["vector"], row["kind"], row["episode_id"], row["start_ns"], row["end_ns"], row["camera"], row["said"], payload
    )  # fmt: skip
