"""Committing finished units, several in one Delta commit per table. Each stays exactly-once on its own.

A group is a convenience of writing: a table's commit carries the mark of every unit in it, and a unit whose mark is there already is
left out. `runs` comes last and makes units done. A group that dies half-way leaves what a single unit would: the next run appends to
the tables that lack it. A group is committed when it is large or old enough, and when the stage ends, however it ends.
"""

import time
from collections.abc import Sequence
from typing import Any, Self

import pyarrow as pa

from catalog.append import CLOCK, Part
from catalog.tables import Catalog
from pipelines.unit.failpoints import failpoint
from pipelines.unit.model import NOTHING, Finished, Output, Reject, Stage, Status, UnitReport
from pipelines.unit.receipt import read_receipt, remove_receipt
from schemas.ids import short_id
from schemas.tables import TABLES

MARKER = "runs"
_FIRST = ("quarantine", "datasets", "shards", "episodes")
COMMIT_ORDER = (*_FIRST, *(name for name in TABLES if name not in (*_FIRST, MARKER)))
_RUN_SCHEMA = pa.schema([f for f in TABLES[MARKER].schema if f.name not in ("unit", CLOCK)])
# A group closes at so many units, or after so long, or when its last commit took a tenth of the time since.
GROUP_UNITS, GROUP_S, GROUP_SHARE = 4096, 2.0, 10


class Committer:
    """Collects a run's finished units and commits them in groups. Leaving the `with` block commits what is left, errors or not."""

    def __init__(self, stage: Stage, run: str, *, run_units: int | None = None, repair: bool = False) -> None:
        """Commit units of `stage` for `run`, which set out to do `run_units`; with `repair` their rows are there already."""
        self._stage, self._run, self._run_units, self._repair = stage, run, run_units, repair
        self._catalog, self._waiting = Catalog(stage.lake), list[Finished]()
        self._since, self._wait_s = time.monotonic(), 0.0
        self._version: int | None = None
        self.retries = 0
        self.elsewhere = set[str]()
        """Units that other runs have committed since this one began, as far as it has noticed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, finished: Finished) -> list[UnitReport]:
        """Take a finished unit; return the reports of those that were committed by now, often none."""
        self._waiting.append(finished)
        due = time.monotonic() - self._since >= self._wait_s
        return self.flush() if due or len(self._waiting) >= GROUP_UNITS else []

    def flush(self) -> list[UnitReport]:
        """Commit everything that waits; return its reports."""
        if not self._waiting:
            return []
        group, self._waiting = self._waiting, []
        started = time.monotonic()
        reports = self.commit(group)
        self._look_around()
        self._since = time.monotonic()
        self._wait_s = max(GROUP_S, GROUP_SHARE * (self._since - started))
        return reports

    def commit(self, group: Sequence[Finished]) -> list[UnitReport]:
        """Commit a group of units; a unit that another writer committed meanwhile is reported as skipped."""
        outputs = {f.unit.mark: f.output or read_receipt(self._stage.lake, f.unit) for f in group if f.status != "failed"}
        self._quarantine_failed([f for f in group if f.status == "failed"])
        whole = [f for f in group if f.status != "failed"]
        unknown = {name for output in outputs.values() for name in output.tables} - set(COMMIT_ORDER)  # the catalog will say so
        for table in (*COMMIT_ORDER, *sorted(unknown)):
            parts = [p for f in whole if (p := self._part(table, f, outputs[f.unit.mark])) is not None]
            if parts:
                failpoint("before-table")
                self.retries += self._catalog.append_all(table, parts).retries
                failpoint("after-table")
        won = self._mark(whole, outputs) if whole else frozenset[str]()
        for finished in whole:
            if finished.receipt:
                failpoint("before-receipt-removal")
                remove_receipt(self._stage.lake, finished.unit)
        if self._repair:
            won = frozenset(outputs)
        return [_report(f, outputs.get(f.unit.mark), won) for f in group]

    def _look_around(self) -> None:
        """Notice what other runs have committed, so that two of them on one plan share it. Costs a look at the version if alone."""
        version, expected = self._catalog.version(MARKER), None if self._version is None else self._version + 1
        if expected is not None and version != expected:
            self.elsewhere |= self._catalog.committed_units(MARKER)
        self._version = version

    def _part(self, table: str, finished: Finished, output: Output) -> Part | None:
        rows = output.tables.get(table)
        if table == "quarantine" and output.rejects:
            rows = self._quarantine_rows(finished, output.rejects)
        return Part(finished.unit.id, rows, finished.unit.mark) if rows is not None and rows.num_rows else None

    def _mark(self, group: Sequence[Finished], outputs: dict[str, Output]) -> frozenset[str]:
        failpoint("before-marker")
        rows = pa.Table.from_pylist([self._run_row(f, outputs[f.unit.mark]) for f in group], schema=_RUN_SCHEMA)
        parts = [Part(f.unit.id, rows.slice(i, 1), f.unit.mark) for i, f in enumerate(group)]
        appended = self._catalog.append_all(MARKER, parts)
        failpoint("after-marker")
        self.retries += appended.retries
        return appended.marks

    def _run_row(self, finished: Finished, output: Output) -> dict[str, Any]:
        unit, cost = finished.unit, finished.measured
        return {
            "run": self._run, "stage": self._stage.name, "dataset": unit.dataset, "seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds,
            "rows": output.rows, "frames": output.frames, "bytes": output.bytes, "rejects": len(output.rejects), "host": cost.host,
            "peak_rss_mb": cost.peak_rss_mb, "label": unit.label, "status": finished.status, "started_ns": cost.started_ns,
            "frames_per_s": output.frames / cost.seconds if output.frames and cost.seconds else None, "run_units": self._run_units,
            **output.measures,
        }  # fmt: skip

    def _quarantine_failed(self, failed: Sequence[Finished]) -> None:
        """Say why; a mark per run, so that each attempt is told once."""
        marks = [short_id("try", [f.unit.id, self._run]) for f in failed]
        parts = [Part(mark, self._quarantine_rows(f, f.rejects)) for mark, f in zip(marks, failed, strict=True)]
        if parts:
            self._catalog.append_all("quarantine", parts)

    def _quarantine_rows(self, finished: Finished, rejects: Sequence[Reject]) -> pa.Table:
        return pa.Table.from_pylist(
            [
                {"stage": self._stage.name, "dataset": finished.unit.dataset, "key": r.key, "uri": r.uri, "error": r.error,
                 "message": r.message, "episodes": r.episodes, "run": self._run}
                for r in rejects
            ]
        )  # fmt: skip


def _report(finished: Finished, output: Output | None, won: frozenset[str]) -> UnitReport:
    unit, seconds = finished.unit, finished.measured.seconds
    if output is None:
        return UnitReport(unit.id, unit.label, unit.dataset, "failed", seconds=seconds, rejects=finished.rejects)
    status: Status = finished.status if unit.mark in won else "skipped"
    return UnitReport(
        unit.id, unit.label, unit.dataset, status, output.rows, output.frames, output.bytes, seconds, output.rejects,
        output.measures or NOTHING,
    )  # fmt: skip
