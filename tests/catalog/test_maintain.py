"""Compaction: fewer files, the same rows, pinned versions still readable, commit markers still there."""

import pyarrow as pa
from deltalake import DeltaTable

from catalog.lake import Lake
from catalog.maintain import compact
from catalog.tables import Catalog


def test_compaction_changes_files_and_nothing_else(lake: Lake) -> None:
    catalog = Catalog(lake)
    for i in range(12):
        catalog.append("runs", pa.Table.from_pylist([{"run": "r", "stage": "ingest", "rows": i}]), f"u-{i}")
    pinned, before = catalog.version("runs"), catalog.latest("runs").collect()
    assert compact(lake) == {"runs": (12, 1)}
    assert catalog.latest("runs").collect().equals(before)
    assert catalog.scan("runs", pinned).collect().height == 12
    assert catalog.committed("runs", "u-3")
    assert not catalog.append("runs", pa.Table.from_pylist([{"run": "r", "stage": "ingest", "rows": 3}]), "u-3")
    assert len(DeltaTable(lake.table("runs")).file_uris()) == 1


def test_small_tables_and_an_empty_lake_are_left_alone(lake: Lake) -> None:
    assert compact(lake) == {}
    Catalog(lake).append("runs", pa.Table.from_pylist([{"run": "r", "stage": "ingest"}]), "u-1")
    assert compact(lake) == {}
