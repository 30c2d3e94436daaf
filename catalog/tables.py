"""Writing and reading the catalog's Delta tables: exactly-once appends, pinned versions, latest-wins frames.

Every append carries the unit id as a Delta application transaction and is written from the very table object that was checked;
writing by path would accept the same marker twice.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from catalog.lake import Lake
from schemas.errors import ConflictError, LakeError
from schemas.tables import TABLES, CatalogTable

ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Catalog:
    """The Delta tables of one lake. Cheap to build; every call opens the table it needs."""

    lake: Lake

    def committed(self, table: str, unit: str) -> bool:
        """Tell whether `unit` has been appended to `table`."""
        delta = self._open(_known(table), create=False)
        return delta is not None and delta.transaction_version(unit) is not None

    def committed_units(self, table: str) -> set[str]:
        """Return every unit id that has rows in `table`; one read instead of one look-up per unit."""
        if self._open(_known(table), create=False) is None:
            return set()
        return set(self.scan(table).select(pl.col("unit").unique()).collect()["unit"].to_list())

    def append(self, table: str, rows: pa.Table, unit: str) -> bool:
        """Append `rows` once for `unit`; return False where the unit was already there.

        `rows` needs the table's own columns; missing ones become null, and `unit` and `committed_ns` are added.

        Raises:
            LakeError: `rows` has a column the table does not have.
            ConflictError: other writers kept winning for `ATTEMPTS` tries.
        """
        spec = _known(table)
        data = _conform(rows, spec, unit)
        properties = CommitProperties(app_transactions=[Transaction(unit, 1)], max_commit_retries=ATTEMPTS)
        for attempt in range(ATTEMPTS):
            delta = self._open(spec, create=True)
            assert delta is not None
            if delta.transaction_version(unit) is not None:
                return False
            try:
                # "merge": a table made before a column was added gets it now
                write_deltalake(delta, data, mode="append", schema_mode="merge", commit_properties=properties)
                return True
            except (CommitFailedError, DeltaError) as error:
                if not _is_conflict(error):
                    raise
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise ConflictError(f"{table}: unit {unit} lost {ATTEMPTS} commits in a row; fewer writers, or run it again")

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Return every row of `table` ever committed up to `version` (now, if None)."""
        spec = _known(table)
        delta = self._open(spec, create=False)
        if delta is None:
            return pl.from_arrow(spec.schema.empty_table()).lazy()
        if version is not None:
            delta.load_as_version(version)
        return pl.scan_delta(delta)

    def latest(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Return the newest row per key of `table`: rewrites hide what they replace."""
        key = list(_known(table).key)
        frame = self.scan(table, version).sort("committed_ns", descending=True, maintain_order=True)
        return frame.unique(key, keep="first", maintain_order=True).sort(key)

    def version(self, table: str) -> int | None:
        """Return the current Delta version of `table`, or None where it does not exist yet."""
        delta = self._open(_known(table), create=False)
        return None if delta is None else delta.version()

    def _open(self, spec: CatalogTable, *, create: bool) -> DeltaTable | None:
        uri, options = self.lake.table(spec.name), self.lake.storage_options or None
        try:
            return DeltaTable(uri, storage_options=options)
        except TableNotFoundError:
            if not create:
                return None
        try:
            return DeltaTable.create(uri, spec.schema, mode="ignore", name=spec.name, storage_options=options)
        except DeltaError as error:
            if not _is_conflict(error):
                raise
            return DeltaTable(uri, storage_options=options)  # another writer created it first


def current_shards(episodes: pl.LazyFrame) -> pl.LazyFrame:
    """Return the distinct `(dataset, shard)` pairs that hold at least one current episode."""
    return episodes.select("dataset", "shard").unique().sort("dataset", "shard")


def _known(table: str) -> CatalogTable:
    try:
        return TABLES[table]
    except KeyError:
        raise LakeError(f"the catalog has no table {table!r}; it has {sorted(TABLES)}") from None


def _conform(rows: pa.Table, spec: CatalogTable, unit: str) -> pa.Table:
    if unknown := sorted(set(rows.column_names) - set(spec.schema.names)):
        raise LakeError(f"{spec.name}: columns {unknown} are not in its schema; add them to schemas/tables.py as nullable")
    count, now = rows.num_rows, time.time_ns()
    given: Mapping[str, object] = {name: rows.column(name) for name in rows.column_names}
    given = {**given, "unit": pa.array([unit] * count), "committed_ns": pa.array([now] * count, pa.int64())}
    columns = [given[f.name].cast(f.type) if f.name in given else pa.nulls(count, f.type) for f in spec.schema]
    return pa.table(columns, schema=spec.schema)


def _is_conflict(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, CommitFailedError) or any(
        word in text for word in ("concurrent", "conflict", "already exists", "version 0", "transaction failed")
    )
