"""How rows get into a Delta table: exactly once per mark, on a clock that never runs backwards, whatever columns the table has.

The mark is a Delta application transaction. It is looked up in the very table object that the rows are written from: a commit that
another writer wins in between is refused, while writing by path would accept the same mark twice.
"""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from catalog.lake import Lake
from catalog.outage import is_outage, outage
from schemas.errors import ConflictError, LakeError
from schemas.tables import CatalogTable

ATTEMPTS = 20
OUTAGES, OUTAGE_PAUSE_S = 4, 0.1
ONE_BY_ONE = 8  # marks looked up in the log; more are looked up in the rows, which costs the same however many they are
CLOCK = "committed_ns"
KEEP_LOG = {"delta.enableExpiredLogCleanup": "false"}  # Delta would drop log entries after 30 days, and pinned versions with them


@dataclass(frozen=True, slots=True)
class Part:
    """What one unit adds to a table. `mark` makes it happen once; it is the unit's id, with a number where the unit is done again."""

    unit: str
    rows: pa.Table
    mark: str = ""

    @property
    def transaction(self) -> str:
        """Name of the Delta application transaction."""
        return self.mark or self.unit


@dataclass(frozen=True, slots=True)
class Appended:
    """Which marks a call committed, and how often it had to start over because another writer was faster."""

    marks: frozenset[str]
    retries: int = 0


def append_parts(lake: Lake, spec: CatalogTable, parts: Sequence[Part]) -> Appended:
    """Append in one commit every part whose mark is not in the table yet.

    Raises:
        LakeError: a part has a column the table does not have, or the lake's table has one of another type.
        ConflictError: other writers kept winning for `ATTEMPTS` tries.
        TransportError: the store failed `OUTAGES` times in a row.
    """
    for names in {tuple(p.rows.schema.names) for p in parts}:
        refuse_unknown(names, spec)
    doubtful, outages = set[str](), 0
    for attempt in range(ATTEMPTS):
        try:
            return Appended(_append_once(lake, spec, parts, doubtful), attempt)
        except Exception as error:
            if is_outage(error):
                outages += 1
                if outages == OUTAGES:
                    raise outage(lake.root, error) from None
                time.sleep(random.uniform(0.5, 1) * OUTAGE_PAUSE_S * 2**outages)
            elif isinstance(error, (CommitFailedError, DeltaError)) and is_conflict(error):
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
            else:
                raise
    raise ConflictError(
        f"{spec.name}: {len(parts)} units ({parts[0].unit} first) lost {ATTEMPTS} commits in a row; fewer writers, or run it again"
    )


def _append_once(lake: Lake, spec: CatalogTable, parts: Sequence[Part], doubtful: set[str]) -> frozenset[str]:
    """Try once to append what is not there; return the marks this call has committed, now or in an earlier try.

    `doubtful` collects the marks of tries whose answer was lost: what of them is there the next time, this call has put there.
    """
    delta = _open_or_create(lake, spec, create=True)
    assert delta is not None
    known = marks_in(delta, parts)
    fresh = [p for p in parts if p.transaction not in known]
    if fresh:
        marks = [p.transaction for p in fresh]
        properties = CommitProperties(app_transactions=[Transaction(m, 1) for m in marks], max_commit_retries=ATTEMPTS)
        data, grown = _conform(fresh, spec, delta)
        try:
            write_deltalake(delta, data, mode="append", schema_mode="merge" if grown else None, commit_properties=properties)
        except OSError:
            doubtful |= set(marks)
            raise
        return frozenset(marks) | (doubtful & known)
    return frozenset(doubtful & known)


def marks_in(delta: DeltaTable, parts: Sequence[Part]) -> set[str]:
    """Return which of the parts' marks this version of the table holds."""
    asked = [p.transaction for p in parts if p.transaction != p.unit]
    plain = [p.unit for p in parts if p.transaction == p.unit]
    if len(plain) <= ONE_BY_ONE:
        asked, plain = [*asked, *plain], []
    found = {mark for mark in asked if delta.transaction_version(mark) is not None}
    if plain:
        wanted = pl.Series("unit", plain, pl.String)
        rows = pl.scan_delta(delta).select(pl.col("unit").filter(pl.col("unit").is_in(wanted.implode())).unique())
        found |= set(rows.collect()["unit"].to_list())
    return found


def open_table(lake: Lake, spec: CatalogTable, *, create: bool) -> DeltaTable | None:
    """Open a table at its newest version; create it, or return None, where it does not exist.

    Raises:
        TransportError: the store does not answer.
    """
    try:
        return _open_or_create(lake, spec, create=create)
    except OSError as error:
        if not is_outage(error):
            raise
        raise outage(lake.root, error) from None


def _open_or_create(lake: Lake, spec: CatalogTable, *, create: bool) -> DeltaTable | None:
    uri, options = lake.table(spec.name), lake.storage_options or None
    try:
        return DeltaTable(uri, storage_options=options)
    except TableNotFoundError:
        if not create:
            return None
    try:
        return DeltaTable.create(uri, spec.schema, mode="ignore", name=spec.name, configuration=KEEP_LOG, storage_options=options)
    except DeltaError as error:
        if not is_conflict(error):
            raise
        return DeltaTable(uri, storage_options=options)  # another writer created it first


def refuse_unknown(columns: Iterable[str], spec: CatalogTable) -> None:
    """Check that every one of `columns` is one of the table's.

    Raises:
        LakeError: one is not.
    """
    if unknown := sorted(set(columns) - set(spec.schema.names)):
        raise LakeError(f"{spec.name}: columns {unknown} are not in its schema; add them to schemas/tables.py as nullable")


def newest_commit(delta: DeltaTable) -> int:
    """Return the largest `committed_ns` in a table, 0 where it is empty: from the file statistics, without reading a row."""
    stats = pa.table(delta.get_add_actions(flatten=True))
    if not stats.num_rows:
        return 0
    column = f"max.{CLOCK}"
    if column in stats.column_names and not stats.column(column).null_count:
        return pc.max(stats.column(column)).as_py()
    return pl.scan_delta(delta).select(pl.col(CLOCK).max()).collect().item() or 0


def is_conflict(error: Exception) -> bool:
    """Tell whether another writer was faster: trying again from the new state may work."""
    text = str(error).lower()
    return isinstance(error, CommitFailedError) or any(
        word in text for word in ("concurrent", "conflict", "already exists", "version 0", "transaction failed")
    )


def _conform(parts: Sequence[Part], spec: CatalogTable, delta: DeltaTable) -> tuple[pa.Table, bool]:
    """Lay the parts out as the table is; tell whether that adds columns to it.

    `committed_ns` is the wall clock, but always after everything the table held when it was opened: a machine whose clock is behind
    could otherwise write rows that are hidden by what they replace.
    """
    present = pa.schema(delta.schema().to_arrow())
    added = [f for f in spec.schema if f.name not in present.names]
    _refuse_other_types(spec, delta)
    schema = pa.schema([*present, *added])
    now = max(time.time_ns(), newest_commit(delta) + 1)
    runs = [list(run) for _, run in groupby(enumerate(parts), key=lambda part: part[1].rows.schema)]
    return pa.concat_tables([_laid_out([p for _, p in run], schema, now + run[0][0]) for run in runs]), bool(added)


def _refuse_other_types(spec: CatalogTable, delta: DeltaTable) -> None:
    theirs = {f.name: f.type for f in delta.schema().fields}
    ours = {f.name: f.type for f in Schema.from_arrow(spec.schema).fields}
    if wrong := [f"{name} ({theirs[name]}, not {ours[name]})" for name in ours if theirs.get(name, ours[name]) != ours[name]]:
        raise LakeError(
            f"the lake's table {spec.name} has columns of other types than this version writes: {', '.join(wrong)}. Columns are only ever "
            "added; use the version that made the lake, or ingest into a new one"
        )


def _laid_out(parts: Sequence[Part], schema: pa.Schema, now: int) -> pa.Table:
    """Lay out parts that have the same columns; each part's rows get a time of their own."""
    rows, counts = pa.concat_tables([p.rows for p in parts]), [p.rows.num_rows for p in parts]
    given: Mapping[str, Any] = {name: rows.column(name) for name in rows.column_names}
    units = np.repeat(np.asarray([p.unit for p in parts], object), counts)
    times = np.repeat(now + np.arange(len(parts), dtype=np.int64), counts)
    given = {**given, "unit": pa.array(units, pa.string()), CLOCK: pa.array(times, pa.int64())}
    columns = [given[f.name].cast(f.type) if f.name in given else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)
