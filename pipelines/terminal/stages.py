"""Runs a stage for a command: dry run, progress, summary, exit code. The same for every stage."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.executors import Execution
from pipelines.terminal.console import Console, size
from pipelines.unit import STOP_REJECTS, Stage, StageReport, Unit, UnitReport, pending, run_stage

QUARANTINED, NOTHING = 3, 4


@dataclass(frozen=True, slots=True)
class Running:
    """How a command's stages run."""

    console: Console
    execution: Execution = field(default_factory=Execution)
    limit: int | None = None
    max_rejects: float = STOP_REJECTS
    repair: bool = False


def describe(stage: Stage, running: Running, columns: Sequence[str] = ()) -> dict[str, Any]:
    """Say what a stage would do; the body of `--dry-run`."""
    units, todo = list(stage.plan()), pending(stage)
    episodes, volume = sum(u.episodes for u in todo), sum(u.bytes for u in todo)
    document: dict[str, Any] = {
        "stage": stage.name, "units": len(units), "done": len(units) - len(todo), "to_do": len(todo), "episodes": episodes,
        "bytes": volume, "columns": list(columns),
    }  # fmt: skip
    console = running.console
    console.text(f"{stage.name}: {len(todo)} of {len(units)} units to do, {episodes} episodes, {size(volume)}")
    if columns:
        console.text("columns: " + ", ".join(columns))
    console.table(("unit", "what", "episodes", "size"), [(u.id, u.label, u.episodes, size(u.bytes)) for u in todo[:50]])
    return document


def perform(stage: Stage, running: Running) -> StageReport:
    """Run a stage with a progress bar on stderr."""
    total, finished = 0, 0
    with running.console.progress(stage.name) as update:

        def on_plan(todo: Sequence[Unit], _done: int) -> None:
            nonlocal total
            total = len(todo)
            update(0, total)

        def on_unit(report: UnitReport) -> None:
            nonlocal finished
            finished += 1
            update(finished, total)
            for reject in report.rejects:
                running.console.note(f"quarantined {reject.key}: {reject.error}: {reject.message}")

        return run_stage(
            stage, execution=running.execution, limit=running.limit, stop_rejects=running.max_rejects, repair=running.repair,
            on_plan=on_plan, on_unit=on_unit,
        )  # fmt: skip


def summary(report: StageReport) -> dict[str, Any]:
    """Return a stage report as a JSON document."""
    return {
        "stage": report.stage, "seconds": round(report.seconds, 3), "units": len(report.units),
        "done": report.count("done"), "recovered": report.count("recovered"), "skipped": report.count("skipped"),
        "failed": report.count("failed"), "left": report.count("left"), "rows": report.total("rows"), "frames": report.total("frames"),
        "bytes": report.total("bytes"),
        "quarantine": [{"key": r.key, "uri": r.uri, "error": r.error, "message": r.message} for r in report.rejects],
    }  # fmt: skip


def sentence(report: StageReport) -> str:
    """Say in one line how a stage went."""
    if report.worked == 0 and not report.rejects and not report.count("left"):
        return f"{report.stage}: nothing to do, {_all(len(report.units), 'unit')} already there"
    rate = report.total("frames") / report.seconds if report.seconds else 0
    frames = f", {report.total('frames'):,} frames ({rate:,.0f}/s)" if report.total("frames") else ""
    text = (
        f"{report.stage}: {plural(report.worked, 'unit')}, {report.total('rows'):,} rows{frames}, {size(report.total('bytes'))}"
    )
    skipped = f", {report.count('skipped')} already there" if report.count("skipped") else ""
    rejects = f", {len(report.rejects)} in quarantine" if report.rejects else ""
    left = f"; the time was up with {plural(report.count('left'), 'unit')} left for the next run" if report.count("left") else ""
    return f"{text} in {report.seconds:.1f} s{skipped}{rejects}{left}"


def plural(count: int, noun: str) -> str:
    """Return `1 unit`, `2 units`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _all(count: int, noun: str) -> str:
    return f"the one {noun} is" if count == 1 else f"all {plural(count, noun)} are"


def exit_code(report: StageReport) -> int:
    """Return 0, or 3 where something is in quarantine, or 4 where nothing else was."""
    if not report.rejects:
        return 0
    usable = report.total("rows") or report.count("skipped")
    return QUARANTINED if usable else NOTHING
