"""The one loop that does all work: plan, skip what is committed, work, write, commit, quarantine.

Exactly-once is a property of the commit, not of the work. A unit's files get their final names, a receipt is written, then its
rows are appended to each catalog table under the unit id, `runs` last: the row in `runs` is what marks a unit as done. Killed
anywhere, a rerun finds the marker (skip), the receipt (commit without working again) or neither (work again).
"""

import base64
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution, run_all
from pipelines.publish import PublishedFile, is_intact, publish_bytes
from schemas.errors import CotrainError, DataError, RejectLimitError, WorkerCrashError
from schemas.ids import short_id

COMMIT_ORDER = (
    "quarantine",
    "datasets",
    "shards",
    "episodes",
    "annotations",
    "scores",
    "duplicates",
    "decisions",
    "splits",
    "residuals",
    "mixtures",
    "publications",
)
MARKER = "runs"
WARN_REJECTS, STOP_REJECTS, JUDGE_AFTER = 0.05, 0.20, 20


@dataclass(frozen=True, slots=True)
class Unit:
    """A bounded piece of work. `id` hashes its inputs, configuration and code version; `payload` is what `Stage.work` needs."""

    id: str
    stage: str
    dataset: str
    label: str
    payload: Any
    bytes: int = 0
    episodes: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """One piece of input that could not be used, and why."""

    key: str
    uri: str
    error: str
    message: str
    episodes: int = 1

    @classmethod
    def of(cls, error: BaseException, key: str, uri: str = "", episodes: int = 1) -> "Reject":
        """Describe `error` for the quarantine, with the context it gathered on the way up."""
        notes = "; ".join(getattr(error, "__notes__", []))
        message = f"{error}{' (' + notes + ')' if notes else ''}"
        return cls(key, getattr(error, "uri", "") or uri, type(error).__name__, message, episodes)


@dataclass(frozen=True, slots=True)
class Output:
    """What a unit made: files already published, rows to commit per catalog table, and rejects."""

    files: tuple[PublishedFile, ...] = ()
    tables: dict[str, pa.Table] = field(default_factory=dict[str, pa.Table])
    rejects: tuple[Reject, ...] = ()
    rows: int = 0
    frames: int = 0
    bytes: int = 0


class Stage(Protocol):
    """One kind of work. Instances are small, frozen and picklable: they travel to workers.

    A stage may also say `gpus`, how many GPUs one unit needs; see `gpus_of`.
    """

    @property
    def name(self) -> str:
        """Short name: `ingest`, `annotate`, ..."""
        ...

    @property
    def lake(self) -> Lake:
        """Where results go."""
        ...

    def plan(self) -> Sequence[Unit]:
        """List every unit of this stage, done or not, without doing any of it."""
        ...

    def work(self, unit: Unit) -> Output:
        """Do `unit`: publish its files and return its rows. May run twice; must give the same files both times."""
        ...


@dataclass(frozen=True, slots=True)
class UnitReport:
    """How one unit went. `failed` units keep no marker and are tried again by the next run; `left` ones the time did not allow."""

    unit: str
    label: str
    dataset: str
    status: Literal["done", "recovered", "skipped", "failed", "left"]
    rows: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True, slots=True)
class StageReport:
    """How a whole stage went: one report per planned unit."""

    stage: str
    units: tuple[UnitReport, ...]
    seconds: float
    episodes_planned: int

    def count(self, status: str) -> int:
        """Number of units with `status`."""
        return sum(u.status == status for u in self.units)

    @property
    def rejects(self) -> tuple[Reject, ...]:
        """Every reject of this run."""
        return tuple(r for u in self.units for r in u.rejects)

    @property
    def worked(self) -> int:
        """Units that did any work in this run."""
        return self.count("done") + self.count("recovered")

    def total(self, what: Literal["rows", "frames", "bytes"]) -> int:
        """Sum of `what` over the units worked on in this run."""
        return sum(getattr(u, what) for u in self.units)


def run_stage(
    stage: Stage,
    *,
    execution: Execution | None = None,
    limit: int | None = None,
    stop_rejects: float = STOP_REJECTS,
    repair: bool = False,
    on_plan: Callable[[Sequence[Unit], int], None] | None = None,
    on_unit: Callable[[UnitReport], None] | None = None,
) -> StageReport:
    """Run a stage to the end.

    Args:
        stage: what to do.
        execution: where (default: in this process, or processes where there are several units).
        limit: take at most this many units, the same ones every time (ordered by unit id).
        stop_rejects: share of rejected episodes above which the run stops, judged from 20 episodes on.
        repair: also do the committed units again whose files are missing or damaged; their rows stay as they are.
        on_plan: called once with the open units and the number already done.
        on_unit: called as each unit ends.

    Raises:
        RejectLimitError: too much of the input is unusable; what was done stays committed.
    """
    started, run = time.perf_counter(), short_id("run", [stage.name, time.time_ns(), os.getpid()])
    units = list(stage.plan())
    if limit is not None:
        units = sorted(units, key=lambda u: u.id)[:limit]
    done = Catalog(stage.lake).committed_units(MARKER)
    if repair:
        done -= damaged_units(stage.lake, [u.id for u in units if u.id in done])
    reports = [UnitReport(u.id, u.label, u.dataset, "skipped") for u in units if u.id in done]
    todo = [u for u in units if u.id not in done]
    if on_plan:
        on_plan(todo, len(reports))
    seen = rejected = 0
    episodes = {u.id: u.episodes for u in units}
    calls = [(stage, u, run, repair) for u in todo]
    for unit, result in run_all(execute, calls, execution or Execution(), gpus=gpus_of(stage)):
        report = result if isinstance(result, UnitReport) else _crashed(stage, unit[1], result, run)
        reports.append(report)
        if on_unit:
            on_unit(report)
        seen += episodes[report.unit]
        rejected += sum(r.episodes for r in report.rejects)
        if seen >= JUDGE_AFTER and rejected > stop_rejects * seen:
            raise RejectLimitError(
                f"{stage.name}: {rejected} of {seen} episodes rejected, more than {stop_rejects:.0%}; last reason: "
                f"{report.rejects[-1].message if report.rejects else 'see quarantine'}. "
                "Fix the source, or raise the limit with --max-rejects"
            )
    ended = {r.unit for r in reports}
    reports += [UnitReport(u.id, u.label, u.dataset, "left") for u in todo if u.id not in ended]
    return StageReport(stage.name, tuple(reports), time.perf_counter() - started, sum(episodes.values()))


def execute(stage: Stage, unit: Unit, run: str, repair: bool = False) -> UnitReport:
    """Do one unit exactly once: the function every executor and every Prefect task calls.

    With `repair` a committed unit's files are made again; its rows are not, because appending them again changes nothing.
    """
    catalog, started, cpu = Catalog(stage.lake), time.perf_counter(), time.process_time()
    if not repair and catalog.committed(MARKER, unit.id):
        return UnitReport(unit.id, unit.label, unit.dataset, "skipped")
    output, status = _recover(stage.lake, unit), "recovered"
    if output is None:
        status = "done"
        try:
            output = stage.work(unit)
        except DataError as error:
            # The input is at fault and will be again: the unit is done, with nothing to show but the reason.
            output = Output(rejects=(Reject.of(error, unit.label, episodes=max(unit.episodes, 1)),))
        except CotrainError:
            raise
        except Exception as error:
            return _crashed(stage, unit, error, run)
        _write_receipt(stage.lake, unit, output)
    seconds = time.perf_counter() - started
    _commit(catalog, stage, unit, output, run, seconds, time.process_time() - cpu)
    return UnitReport(
        unit.id, unit.label, unit.dataset, status, output.rows, output.frames, output.bytes, seconds, output.rejects
    )


def execute_batch(stage: Stage, units: Iterable[Unit], run: str) -> list[UnitReport]:
    """Do several units one after the other in this process: the body of a Prefect task."""
    return [execute(stage, unit, run) for unit in units]


def pending(stage: Stage) -> list[Unit]:
    """Return the units of a stage that are not committed yet."""
    done = Catalog(stage.lake).committed_units(MARKER)
    return [u for u in stage.plan() if u.id not in done]


def gpus_of(stage: Stage) -> int:
    """Return how many GPUs one unit of `stage` needs: its `gpus` where it says so, else none."""
    return int(getattr(stage, "gpus", 0))


def damaged_units(lake: Lake, units: Sequence[str]) -> set[str]:
    """Return those of `units` that have a shard or side table which is missing or no longer what was committed."""
    wanted, found = pl.Series("unit", units, pl.String), set[str]()
    for table in ("shards", "annotations"):
        rows = Catalog(lake).scan(table).filter(pl.col("unit").is_in(wanted.implode())).collect()
        for unit, *file in rows.select("unit", "uri", "bytes", "blake3").iter_rows():
            if not is_intact(lake, PublishedFile(*file)):
                found.add(unit)
    return found


def _commit(catalog: Catalog, stage: Stage, unit: Unit, output: Output, run: str, seconds: float, cpu: float) -> None:
    tables = dict(output.tables)
    if output.rejects:
        tables["quarantine"] = _quarantine_rows(stage, unit, output.rejects, run)
    for table in COMMIT_ORDER:
        if table in tables and tables[table].num_rows:
            catalog.append(table, tables[table], unit.id)
    row = {
        "run": run, "stage": stage.name, "dataset": unit.dataset, "seconds": seconds, "cpu_seconds": cpu, "rows": output.rows,
        "frames": output.frames, "bytes": output.bytes, "rejects": len(output.rejects), "host": socket.gethostname(),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    catalog.append(MARKER, pa.Table.from_pylist([row]), unit.id)
    receipt = stage.lake.receipt(unit.id)
    if stage.lake.fs.exists(receipt):
        stage.lake.fs.rm_file(receipt)


def _crashed(stage: Stage, unit: Unit, error: BaseException, run: str) -> UnitReport:
    """Quarantine a unit that broke for a reason the code did not foresee; without a marker, so the next run tries again."""
    if isinstance(error, CotrainError) and not isinstance(error, WorkerCrashError):
        raise error
    reject = Reject.of(error, unit.label, episodes=max(unit.episodes, 1))
    attempt = short_id("try", [unit.id, run])
    Catalog(stage.lake).append("quarantine", _quarantine_rows(stage, unit, (reject,), run), attempt)
    return UnitReport(unit.id, unit.label, unit.dataset, "failed", rejects=(reject,))


def _quarantine_rows(stage: Stage, unit: Unit, rejects: Sequence[Reject], run: str) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"stage": stage.name, "dataset": unit.dataset, "key": r.key, "uri": r.uri, "error": r.error, "message": r.message,
             "episodes": r.episodes, "run": run}
            for r in rejects
        ]
    )  # fmt: skip


def _write_receipt(lake: Lake, unit: Unit, output: Output) -> None:
    body = {
        "unit": unit.id,
        "files": [{"path": f.path, "bytes": f.bytes, "blake3": f.blake3} for f in output.files],
        "tables": {name: base64.b64encode(_ipc(table)).decode() for name, table in output.tables.items()},
        "rejects": [
            {"key": r.key, "uri": r.uri, "error": r.error, "message": r.message, "episodes": r.episodes} for r in output.rejects
        ],
        "rows": output.rows, "frames": output.frames, "bytes": output.bytes,
    }  # fmt: skip
    publish_bytes(lake, json.dumps(body).encode(), lake.receipt(unit.id))


def _recover(lake: Lake, unit: Unit) -> Output | None:
    """Return the output an earlier, interrupted try left behind, if every file it names is still intact."""
    path = lake.receipt(unit.id)
    if not lake.fs.exists(path):
        return None
    body = json.loads(lake.fs.cat_file(path))
    files = tuple(PublishedFile(**f) for f in body["files"])
    if not all(is_intact(lake, f) for f in files):
        return None
    tables = {name: pa.ipc.open_stream(base64.b64decode(data)).read_all() for name, data in body["tables"].items()}
    rejects = tuple(Reject(**r) for r in body["rejects"])
    return Output(files, tables, rejects, body["rows"], body["frames"], body["bytes"])


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()
