"""What is going on in a lake, and what went on last: runs with their progress, pace and rejects. One snapshot; the command repeats it."""

import time
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.observe.live import LiveRun, live_runs

SILENT_S = 60.0  # a run not heard of for so long is inside a long unit, or dead
COLUMNS = (
    "run",
    "stage",
    "dataset",
    "state",
    "units",
    "open",
    "failed",
    "rejects",
    "frames/s",
    "hosts",
    "peak MB",
    "elapsed",
    "ETA",
)


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run. `open` is how many units it still has to do; None where the run did not say how many it set out to do."""

    run: str
    stage: str
    dataset: str
    state: str
    units: int
    open: int | None
    failed: int
    rejects: int
    frames_per_s: float
    hosts: int
    peak_mb: float | None
    elapsed_s: float
    eta_s: float | None

    def cells(self) -> tuple[Any, ...]:
        """Return the values in the order of `COLUMNS`, for a table."""
        return (
            self.run[:12], self.stage, self.dataset, self.state, self.units, self.open, self.failed or None, self.rejects or None,
            round(self.frames_per_s), self.hosts, None if self.peak_mb is None else round(self.peak_mb), clock(self.elapsed_s),
            clock(self.eta_s),
        )  # fmt: skip


def snapshot(lake: Lake, *, last: int = 10, now: float | None = None) -> list[RunLine]:
    """Return the runs that go on, then the `last` that ended, newest first."""
    at, going = time.time() if now is None else now, live_runs(lake)
    committed = _committed(lake)
    running = [_running(live, committed.get(live.run), at) for live in going]
    ended = sorted((c for c in committed.values() if c["run"] not in {live.run for live in going}), key=lambda c: -c["ended_ns"])
    return [*running, *(_ended(row) for row in ended[:last])]


def clock(seconds: float | None) -> str | None:
    """Format a duration as `1:02:03` or `2:03`."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _committed(lake: Lake) -> dict[str, dict[str, Any]]:
    """Sum up `runs` per run. It ends with its last commit and began when its first unit did."""
    ended = pl.col("committed_ns").max()
    began = pl.min_horizontal(pl.col("started_ns").min(), (pl.col("committed_ns") - pl.col("seconds") * 1e9).min().cast(pl.Int64))
    rows = Catalog(lake).scan("runs").group_by("run", "stage").agg(
        pl.len().alias("units"), pl.col("frames").sum(), pl.col("rejects").sum(), pl.col("host").n_unique().alias("hosts"),
        pl.col("peak_rss_mb").max().alias("peak_mb"), pl.col("dataset").unique().sort().alias("datasets"),
        pl.col("run_units").max(), ended.alias("ended_ns"), began.alias("began_ns"),
    )  # fmt: skip
    return {row["run"]: row for row in rows.collect().iter_rows(named=True)}


def _running(live: LiveRun, row: dict[str, Any] | None, now: float) -> RunLine:
    silent = now - live.updated
    state = "running" if silent < SILENT_S else f"silent for {clock(silent)}"
    elapsed = max(now - live.started, 0.0)
    return RunLine(
        live.run, live.stage, live.dataset, state, live.done + live.failed, live.todo - live.done - live.failed, live.failed, live.rejects,
        live.frames / elapsed if elapsed else 0.0, row["hosts"] if row else 1, row["peak_mb"] if row else None, elapsed, live.eta_s,
    )  # fmt: skip


def _ended(row: dict[str, Any]) -> RunLine:
    took = max((row["ended_ns"] - row["began_ns"]) / 1e9, 1e-9)
    wanted = row["run_units"]
    left = None if wanted is None else max(wanted - row["units"], 0)
    names = [d for d in row["datasets"] if d]
    shown = names[0] if len(names) == 1 else f"{len(names)} datasets"
    state = "ended" if not left else "stopped"
    return RunLine(
        row["run"], row["stage"], shown, state, row["units"], left, 0, row["rejects"] or 0, (row["frames"] or 0) / took, row["hosts"],
        row["peak_mb"], took, None,
    )  # fmt: skip
