"""The catalog beside SQLite and DuckDB on the same million episodes: append, group, look up, and the newest row per key joined to scores.

All three hold the same rows on the same disk: `episodes` with a tenth of its keys written twice, `scores` with one row per episode.
Ours answers from Delta through polars, SQLite (WAL, indexed by key) and DuckDB by SQL. Cases take turns; `cold` opens what it needs each
time, as a command does. Appends are durable in all three (`fsync` or the like), one commit each.

    python -m benchmarks.operations_catalog [--quick] [--json] [--full]          (--full: ten million episodes)
"""

import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from benchmarks.harness import Sample, Timing, goal, main, measure, take_turns

EPISODES, QUICK, FULL = 1_000_000, 100_000, 10_000_000
SETS, BATCH, COMMITS = 20, 1_000, 10
ROUNDS = 5
GROUP_SQL = "SELECT dataset, count(*) AS n, sum(duration_s) AS s FROM episodes GROUP BY dataset ORDER BY dataset"
LATEST_SQL = (
    "SELECT e.dataset, count(*) AS n, avg(s.value) AS v FROM (SELECT *, row_number() OVER (PARTITION BY episode_id ORDER BY committed_ns DESC) "
    "AS place FROM episodes) e JOIN scores s ON s.episode_id = e.episode_id WHERE e.place = 1 AND s.value > 0.5 GROUP BY e.dataset ORDER BY e.dataset"
)
_FULL = "--full" in sys.argv[1:]
_COLUMNS = ("episode_id", "dataset", "key", "shard", "steps", "duration_s", "task", "committed_ns")


def rows(start: int, count: int) -> pa.Table:
    """Return `count` episodes, the same ones for the same numbers."""
    numbers = range(start, start + count)
    return pa.table(
        {
            "episode_id": [_name(n) for n in numbers], "dataset": [f"set-{n * SETS // 10**7 % SETS}" for n in numbers],
            "key": [str(n) for n in numbers], "shard": [f"u-{n // 100:020x}" for n in numbers], "steps": [50 + n % 400 for n in numbers],
            "duration_s": [2.5 + n % 97 / 10 for n in numbers], "task": [f"put the {n % 311} on the {n % 13}" for n in numbers],
        }
    )  # fmt: skip


def _name(number: int) -> str:
    return f"ep-{number * 0x9E3779B97F4A7C15 % 2**80:020x}"


def scores(start: int, count: int) -> pa.Table:
    """Return one score per episode."""
    numbers = range(start, start + count)
    names, values = [_name(n) for n in numbers], [n * 7919 % 1000 / 1000 for n in numbers]
    return pa.table(
        {"method": ["m"] * count, "fingerprint": ["f"] * count, "episode_id": names, "start_ns": [0] * count, "value": values}
    )


class Ours:
    """The catalog, as every command opens it."""

    name = "cotrain"

    def __init__(self, home: Path) -> None:
        from catalog.lake import Lake
        from catalog.tables import Catalog

        self.catalog, self._count = Catalog(Lake.at(home / "lake")), 0

    def add(self, episodes: pa.Table, values: pa.Table | None) -> None:
        self._count += 1
        self.catalog.append("episodes", episodes, f"u-{self._count}")
        if values is not None:
            self.catalog.append("scores", values, f"u-{self._count}")

    def ready(self) -> None:
        from catalog.maintain import compact

        compact(self.catalog.lake, above=1)

    def group(self) -> int:
        frame = (
            self.catalog.scan("episodes").group_by("dataset").agg(pl.len(), pl.col("duration_s").sum()).sort("dataset").collect()
        )
        return int(frame["len"].sum())

    def one(self, name: str) -> int:
        return self.catalog.scan("episodes").filter(pl.col("episode_id") == name).collect().height

    def latest(self) -> int:
        newest, high = self.catalog.latest("episodes"), self.catalog.scan("scores").filter(pl.col("value") > 0.5)
        found = (
            newest.join(high, on="episode_id").group_by("dataset").agg(pl.len(), pl.col("value").mean()).sort("dataset").collect()
        )
        return int(found["len"].sum())


class Sqlite:
    """One file, write-ahead log, an index on the key."""

    name = "sqlite"

    def __init__(self, home: Path) -> None:
        self._path = home / "lake.sqlite"
        with self._open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"CREATE TABLE episodes ({', '.join(_COLUMNS)})")
            db.execute("CREATE TABLE scores (episode_id, value)")
            db.execute("CREATE INDEX by_id ON episodes (episode_id, committed_ns)")
            db.execute("CREATE INDEX score_by_id ON scores (episode_id)")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path)

    def add(self, episodes: pa.Table, values: pa.Table | None) -> None:
        db, now = self._open(), time.time_ns()
        columns = [c.to_pylist() for c in episodes.columns]
        with db:
            db.executemany(
                f"INSERT INTO episodes VALUES ({', '.join('?' * 8)})", zip(*columns, [now] * episodes.num_rows, strict=True)
            )
            if values is not None:
                pairs = zip(values["episode_id"].to_pylist(), values["value"].to_pylist(), strict=True)
                db.executemany("INSERT INTO scores VALUES (?, ?)", pairs)
        db.close()

    def ready(self) -> None:
        with self._open() as db:
            db.execute("ANALYZE")

    def _ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        db = self._open()
        found = db.execute(sql, values).fetchall()
        db.close()
        return found

    def group(self) -> int:
        return sum(row[1] for row in self._ask(GROUP_SQL))

    def one(self, name: str) -> int:
        return len(self._ask("SELECT * FROM episodes WHERE episode_id = ?", name))

    def latest(self) -> int:
        return sum(row[1] for row in self._ask(LATEST_SQL))


class Duck:
    """One file, columns, one writing process at a time."""

    name = "duckdb"

    def __init__(self, home: Path) -> None:
        self._path = str(home / "lake.duckdb")
        self._do("CREATE TABLE episodes (episode_id VARCHAR, dataset VARCHAR, key VARCHAR, shard VARCHAR, steps BIGINT, duration_s DOUBLE, "
                 "task VARCHAR, committed_ns BIGINT)")  # fmt: skip
        self._do("CREATE TABLE scores (episode_id VARCHAR, value DOUBLE)")

    def _do(self, sql: str, values: list[Any] | None = None, **tables: Any) -> list[tuple[Any, ...]]:
        import duckdb

        with duckdb.connect(self._path) as db:
            for name, table in tables.items():
                db.register(name, table)
            return db.execute(sql, values or []).fetchall()

    def add(self, episodes: pa.Table, values: pa.Table | None) -> None:
        self._do(f"INSERT INTO episodes SELECT *, {time.time_ns()} FROM new", new=episodes)
        if values is not None:
            self._do("INSERT INTO scores SELECT episode_id, value FROM new", new=values)

    def ready(self) -> None:
        self._do("CHECKPOINT")

    def group(self) -> int:
        return sum(row[1] for row in self._do(GROUP_SQL))

    def one(self, name: str) -> int:
        return len(self._do("SELECT * FROM episodes WHERE episode_id = ?", [name]))

    def latest(self) -> int:
        return sum(row[1] for row in self._do(LATEST_SQL))


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Fill the three stores, ask them the same, and compare."""
    count = FULL if _FULL else QUICK if quick else EPISODES
    home = Path(tempfile.mkdtemp(prefix="cotrain-catalog-"))
    try:
        stores = [kind(home) for kind in (Ours, Sqlite, Duck)]
        results = [_fill(store, count, home) for store in stores]
        results += _questions(stores, count)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return results, _goals(results)


def _fill(store: Any, count: int, home: Path) -> dict[str, Any]:
    """Append everything in `COMMITS` commits and a tenth of it again, then let the store tidy up."""
    step, spent = count // COMMITS, 0.0
    for start in range(0, count, step):
        episodes, values = rows(start, step), scores(start, step)
        begun = time.perf_counter()
        store.add(episodes, values)
        spent += time.perf_counter() - begun
    again = rows(0, count // 10)
    begun = time.perf_counter()
    store.add(again, None)
    store.ready()
    spent += time.perf_counter() - begun
    return {"case": f"fill, {store.name}", "episodes": count, "seconds": round(spent, 2), "mb": _size(home, store.name)}


def _size(home: Path, name: str) -> float:
    roots = {"cotrain": "lake", "sqlite": "lake.sqlite*", "duckdb": "lake.duckdb*"}
    files = [f for root in home.glob(roots[name]) for f in ([root] if root.is_file() else root.rglob("*")) if f.is_file()]
    return round(sum(f.stat().st_size for f in files) / 1e6, 1)


def _questions(stores: list[Any], count: int) -> list[dict[str, Any]]:
    chance, results = random.Random(0), list[dict[str, Any]]()
    ids = [chance.randrange(count) for _ in range(ROUNDS)]
    fresh = iter(range(count, count + 10**6, BATCH))

    def ask(store: Any, what: str) -> Callable[[], Sample]:
        turn = iter(ids)
        match what:
            case "append 1 000 rows":
                tables = {}

                def append() -> float:
                    store.add(tables["rows"], None)
                    return BATCH

                def prepared() -> Sample:
                    tables["rows"] = rows(next(fresh), BATCH)
                    return measure(append)

                return prepared
            case "one id":
                return lambda: measure(lambda: float(store.one(_name(next(turn)))))
            case _:
                return lambda: measure(lambda: float(getattr(store, {"group-by": "group"}.get(what, "latest"))()))

    for what in ("group-by", "one id", "latest-wins join", "append 1 000 rows"):
        timed: dict[str, Timing] = take_turns({s.name: ask(s, what) for s in stores}, ROUNDS)
        answers = {round(t.amount) for t in timed.values()}
        assert what == "one id" or len(answers) == 1, f"{what}: the stores disagree: {answers}"
        ours = timed["cotrain"].wall_s
        results += [
            {
                "case": f"{what}, {name}",
                "ms": round(t.wall_s * 1e3, 1),
                "rows": round(t.amount),
                "x_cotrain": round(t.wall_s / ours, 2),
            }
            for name, t in timed.items()
        ]
    return results


def _goals(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by = {r["case"]: r.get("x_cotrain", 0) for r in results}
    return [
        goal("group-by, SQLite's time over ours", "above 1", by["group-by, sqlite"], by["group-by, sqlite"] > 1),
        goal("latest-wins join, SQLite's time over ours", "above 1", by["latest-wins join, sqlite"], by["latest-wins join, sqlite"] > 1),
        goal("latest-wins join, DuckDB's time over ours", "above 0.5", by["latest-wins join, duckdb"], by["latest-wins join, duckdb"] > 0.5),
        goal("append, DuckDB's time over ours", "above 0.5", by["append 1 000 rows, duckdb"], by["append 1 000 rows, duckdb"] > 0.5),
    ]  # fmt: skip


if __name__ == "__main__":
    if _FULL:
        sys.argv.remove("--full")
    main("operations_catalog", (__doc__ or "").splitlines()[0], run)
