"""Appends: many writers, groups of units, a clock that runs backwards, and lakes whose tables have other columns than this version's."""

import json
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from catalog.append import Part, append_parts, newest_commit
from catalog.lake import Lake
from catalog.maintain import compact
from catalog.query import Query
from catalog.tables import Catalog
from schemas.errors import LakeError
from schemas.tables import RUNS, SHARDS, CatalogTable
from tests.support.forker import Forker

WORKERS, EACH = 8, 10


def uris(lake: Lake) -> list[str]:
    return sorted(Catalog(lake).scan("shards").collect()["uri"].to_list())


def test_eight_processes_append_to_one_table_and_every_unit_lands_once(lake: Lake) -> None:
    Path(lake.root).mkdir()
    with Forker() as forker:
        exits = forker.run(*[("tests.support.crash_stage:append_many", lake.root, w, EACH) for w in range(WORKERS)])
    assert exits == [0] * WORKERS
    own = [f"own-{w}-{n}" for w in range(WORKERS) for n in range(EACH)]
    assert uris(lake) == sorted([*own, *(f"shared-{n}" for n in range(EACH))])
    told = [json.loads((Path(lake.root) / f"worker-{w}.json").read_text()) for w in range(WORKERS)]
    assert sum(t["won"] for t in told) == WORKERS * EACH + EACH
    commits = [c for c in DeltaTable(lake.table("shards")).history() if c["operation"] == "WRITE"]
    assert len(commits) == WORKERS * EACH + EACH
    retried = sum(t["retries"] for t in told) + sum(c["operationMetrics"]["num_retries"] for c in commits)
    assert retried > 0, "eight writers at once never met: the test shows nothing"


def test_a_group_is_one_commit_and_leaves_out_what_is_there(lake: Lake) -> None:
    catalog = Catalog(lake)
    catalog.append("shards", pa.table({"uri": ["b"]}), "u-b")
    parts = [Part(f"u-{name}", pa.table({"uri": [name]})) for name in "abc"]
    assert catalog.append_all("shards", parts).marks == {"u-a", "u-c"}
    assert catalog.append_all("shards", parts).marks == frozenset()
    assert uris(lake) == ["a", "b", "c"]
    assert catalog.version("shards") == 2
    assert catalog.committed("shards", "u-a")


def test_marks_of_a_large_group_are_found_in_the_rows(lake: Lake) -> None:
    parts = [Part(f"u-{n}", pa.table({"uri": [f"f{n}"]})) for n in range(30)]
    Catalog(lake).append_all("shards", parts[:20])
    again = Part("u-3", pa.table({"uri": ["f3"], "rows": [7]}), "u-3+1")
    assert Catalog(lake).append_all("shards", [*parts, again]).marks == {*(f"u-{n}" for n in range(20, 30)), "u-3+1"}
    assert Catalog(lake).append_all("shards", [again]).marks == frozenset()
    assert Catalog(lake).latest("shards").filter(pl.col("uri") == "f3").collect()["rows"].to_list() == [7]


def test_a_group_that_shares_a_unit_with_a_faster_writer_is_refused_and_tried_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(lake)
    catalog.append("shards", pa.table({"uri": ["first"]}), "u-first")
    rival = [Part("u-a", pa.table({"uri": ["a"]}))]
    real = newest_commit

    def slow(delta: DeltaTable) -> int:
        if rival:  # between this writer's look at the marks and its commit
            append_parts(lake, SHARDS, [rival.pop()])
        return real(delta)

    monkeypatch.setattr("catalog.append.newest_commit", slow)
    done = catalog.append_all("shards", [Part("u-a", pa.table({"uri": ["a"]})), Part("u-b", pa.table({"uri": ["b"]}))])
    assert (done.marks, done.retries) == ({"u-b"}, 1)
    assert uris(lake) == ["a", "b", "first"]


def test_a_clock_that_runs_backwards_hides_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(lake)
    for number, hours in enumerate((0, -5, -9)):
        now = time.time_ns() + hours * 3600 * 10**9
        monkeypatch.setattr("catalog.append.time.time_ns", lambda now=now: now)
        catalog.append("shards", pa.table({"uri": ["f"], "rows": [number]}), f"u-{number}")
    rows = catalog.scan("shards").sort("rows").collect()
    assert rows["committed_ns"].is_sorted()
    assert rows["committed_ns"].n_unique() == 3
    assert catalog.latest("shards").collect()["rows"].to_list() == [2]
    compact(lake, above=1)
    catalog.append("shards", pa.table({"uri": ["f"], "rows": [3]}), "u-3")
    assert catalog.latest("shards").collect()["rows"].to_list() == [3]


def test_every_table_keeps_statistics_of_its_clock(lake: Lake) -> None:
    """Delta keeps them for the first 32 columns; a table that outgrows them would be scanned at every append."""
    catalog = Catalog(lake)
    catalog.append("episodes", pa.table({"episode_id": ["a"]}), "u")
    catalog.append("runs", pa.table({"run": ["a"]}), "u")
    for table in ("episodes", "runs"):
        delta = catalog.open(table)
        assert delta is not None
        assert "max.committed_ns" in pa.table(delta.get_add_actions(flatten=True)).column_names
        assert newest_commit(delta) == catalog.scan(table).collect()["committed_ns"].max()


OLD = replace(RUNS, schema=pa.schema([f for f in RUNS.schema if f.name not in ("label", "run_units")]))


def test_a_lake_of_an_older_version_reads_with_nulls_and_grows_on_write(lake: Lake) -> None:
    append_parts(lake, OLD, [Part("u-old", pa.table({"run": ["r"], "stage": ["ingest"]}))])
    rows = Catalog(lake).latest("runs").collect()
    assert rows.columns == RUNS.schema.names
    assert rows.select("unit", "label", "run_units").rows() == [("u-old", None, None)]
    assert Query(Catalog(lake)).sql("SELECT count(label) AS n FROM runs").rows() == [(0,)]
    assert Catalog(lake).append("runs", pa.table({"run": ["r"], "label": ["new"]}), "u-new")
    assert not Catalog(lake).append("runs", pa.table({"run": ["r"], "label": ["new"]}), "u-new")
    found = Catalog(lake).latest("runs").sort("unit").collect()
    assert found.select("unit", "stage", "label").rows() == [("u-new", None, "new"), ("u-old", "ingest", None)]
    assert found.columns == RUNS.schema.names


def test_an_older_version_writes_into_a_newer_lake(lake: Lake) -> None:
    Catalog(lake).append("runs", pa.table({"run": ["r"], "label": ["new"]}), "u-new")
    append_parts(lake, OLD, [Part("u-old", pa.table({"run": ["r"]}))])
    assert Catalog(lake).latest("runs").sort("unit").collect()["label"].to_list() == ["new", None]


def test_a_column_whose_type_was_changed_elsewhere_is_refused(lake: Lake) -> None:
    other = pa.schema([f if f.name != "rows" else pa.field("rows", pa.string()) for f in SHARDS.schema])
    append_parts(lake, CatalogTable("shards", SHARDS.key, other), [Part("u", pa.table({"uri": ["f"], "rows": ["many"]}))])
    with pytest.raises(LakeError, match="rows"):
        Catalog(lake).append("shards", pa.table({"uri": ["g"], "rows": [1]}), "u2")


def test_writing_by_path_would_accept_a_mark_twice(lake: Lake) -> None:
    """The trap this recipe avoids, kept here so that a delta-rs that closes it is noticed."""
    from deltalake import CommitProperties, Transaction

    Catalog(lake).append("shards", pa.table({"uri": ["f"]}), "u")
    rows, marks = Catalog(lake).scan("shards").collect().to_arrow(), CommitProperties(app_transactions=[Transaction("u", 1)])
    write_deltalake(lake.table("shards"), rows, mode="append", commit_properties=marks)
    assert uris(lake) == ["f", "f"]
