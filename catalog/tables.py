"""The catalog's Delta tables: exactly-once appends, pinned versions, latest-wins frames. How rows are written: `catalog.append`."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from catalog.append import CLOCK, Appended, Part, append_parts, open_table
from catalog.fault import lake_faults
from catalog.lake import Lake
from schemas.errors import LakeError
from schemas.tables import TABLES, CatalogTable


@dataclass(frozen=True, slots=True)
class Catalog:
    """The Delta tables of one lake. Cheap to build; every call opens the table it needs."""

    lake: Lake

    def committed(self, table: str, mark: str) -> bool:
        """Tell whether `mark` (a unit's id) has been appended to `table`."""
        delta = self.open(table)
        return delta is not None and delta.transaction_version(mark) is not None

    def committed_units(self, table: str) -> set[str]:
        """Return every unit id that has rows in `table`; one read instead of one look-up per unit."""
        return set(self.scan(table).select(pl.col("unit").unique()).collect()["unit"].to_list())

    def append(self, table: str, rows: pa.Table, unit: str) -> bool:
        """Append `rows` once for `unit`; return False where the unit was already there.

        `rows` needs the table's own columns; missing ones become null, and `unit` and `committed_ns` are added.

        Raises:
            LakeError: `rows` has a column the table does not have.
            ConflictError: other writers kept winning.
        """
        return bool(self.append_all(table, [Part(unit, rows)]).marks)

    def append_all(self, table: str, parts: Sequence[Part]) -> Appended:
        """Append what several units have for one table in one commit; each of them once, as with `append`.

        Raises:
            LakeError: as with `append`; or the lake's disk is full or cannot be written.
            ConflictError: other writers kept winning.
        """
        with lake_faults(self.lake):
            return append_parts(self.lake, _known(table), parts)

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Return every row of `table` ever committed up to `version` (now, if None).

        A lake of an older version of the software lacks columns; they read as null.
        """
        spec = _known(table)
        delta = self.open(table)
        if delta is None:
            return pl.LazyFrame(schema=pl.Schema(spec.schema))
        if version is not None:
            delta.load_as_version(version)
        return _with_columns_of(spec, pl.scan_delta(delta), [f.name for f in delta.schema().fields])

    def latest(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Return the newest row per key of `table`: rewrites hide what they replace."""
        key = list(_known(table).key)
        # One sort by key and time costs half of sorting by time first and by key again.
        frame = self.scan(table, version).sort([*key, CLOCK], descending=[False] * len(key) + [True], maintain_order=True)
        return frame.unique(key, keep="first", maintain_order=True)

    def version(self, table: str) -> int | None:
        """Return the current Delta version of `table`, or None where it does not exist yet."""
        delta = self.open(table)
        return None if delta is None else delta.version()

    def open(self, table: str) -> DeltaTable | None:
        """Open `table` at its newest version, or return None where it does not exist yet."""
        return open_table(self.lake, _known(table), create=False)


def current_shards(episodes: pl.LazyFrame) -> pl.LazyFrame:
    """Return the distinct `(dataset, shard)` pairs that hold at least one current episode."""
    return episodes.select("dataset", "shard").unique().sort("dataset", "shard")


def _with_columns_of(spec: CatalogTable, frame: pl.LazyFrame, present: list[str]) -> pl.LazyFrame:
    kinds = pl.Schema(spec.schema)
    if present[: len(kinds)] == kinds.names():
        return frame
    missing = [pl.lit(None, kind).alias(name) for name, kind in kinds.items() if name not in present]
    return frame.with_columns(missing).select(*kinds, *(name for name in present if name not in kinds))


def _known(table: str) -> CatalogTable:
    try:
        return TABLES[table]
    except KeyError:
        raise LakeError(f"the catalog has no table {table!r}; it has {sorted(TABLES)}") from None
