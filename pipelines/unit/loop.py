"""Runs a stage: plan, leave out what is done, hand the rest to an executor, commit what comes back, stop when too much is unusable."""

import logging
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

from pipelines.executors import Execution, run_all
from pipelines.observe.live import Progress
from pipelines.observe.log import configure, event
from pipelines.unit.commit import Committer
from pipelines.unit.execute import crashed, prepare
from pipelines.unit.model import NOTHING, Finished, Reject, Stage, StageReport, Unit, UnitReport, gpus_of
from pipelines.unit.outstanding import outstanding
from schemas.errors import RejectLimitError
from schemas.ids import short_id

STOP_REJECTS, JUDGE_AFTER = 0.20, 20


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
        on_unit: called as each unit is committed.

    Raises:
        RejectLimitError: too much of the input is unusable; what was done stays committed.
    """
    started, run = time.perf_counter(), short_id("run", [stage.name, time.time_ns(), os.getpid()])
    units: Sequence[Unit] = stage.plan()
    todo = outstanding(stage, units, repair=repair)
    if limit is not None:
        chosen = {u.id for u in sorted(units, key=lambda u: u.id)[:limit]}
        units, todo = [u for u in units if u.id in chosen], [u for u in todo if u.id in chosen]
    reports = [UnitReport(u.id, u.label, u.dataset, "skipped", measures=NOTHING) for u in _rest(units, todo)]
    if on_plan:
        on_plan(todo, len(reports))
    watch = _Watch(stage, run, len(todo), len(reports))
    with watch:
        for report in _work(stage, todo, run, execution or Execution(), Judge(stage.name, stop_rejects), repair):
            reports.append(report)
            watch.take(report)
            if on_unit:
                on_unit(report)
    ended = {r.unit for r in reports}
    reports += [UnitReport(u.id, u.label, u.dataset, "left") for u in todo if u.id not in ended]
    return StageReport(stage.name, tuple(reports), time.perf_counter() - started, sum(u.episodes for u in units))


def _rest(units: Sequence[Unit], todo: Sequence[Unit]) -> Iterator[Unit]:
    """Yield the units that are not in `todo`, which has the same order: a million of each need no set of ids."""
    waiting = iter(todo)
    following = next(waiting, None)
    for unit in units:
        if following is not None and unit.id == following.id:
            following = next(waiting, None)
        else:
            yield unit


class _Watch:
    """Tells whoever watches: log lines, and the run's live progress."""

    def __init__(self, stage: Stage, run: str, todo: int, skipped: int) -> None:
        configure()
        self._facts, self._begun, self._count = {"run": run, "stage": stage.name}, time.perf_counter(), 0
        event("stage-started", logging.INFO, **self._facts, todo=todo, skipped=skipped)
        self._progress = Progress(stage.lake, run, stage.name, todo, skipped)

    def __enter__(self) -> None:
        return None

    def take(self, report: UnitReport) -> None:
        self._count += 1
        self._progress.take(report)
        event(
            f"unit-{report.status}", logging.INFO, **self._facts, unit=report.unit, label=report.label, dataset=report.dataset, rows=report.rows,
            frames=report.frames, bytes=report.bytes, seconds=round(report.seconds, 4), rejects=len(report.rejects),
            **({"error": report.rejects[-1].message} if report.rejects else {}),
        )  # fmt: skip

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._progress.end()
        seconds = round(time.perf_counter() - self._begun, 4)
        if error is None:
            event("stage-ended", logging.INFO, **self._facts, units=self._count, seconds=seconds)
        else:
            event(
                "stage-stopped",
                logging.ERROR,
                **self._facts,
                units=self._count,
                seconds=seconds,
                error=f"{type(error).__name__}: {error}",
            )


@dataclass(slots=True)
class Judge:
    """Counts rejected episodes and stops the run when too large a share of many is; `advice` ends the sentence."""

    stage: str
    limit: float
    advice: str = "or raise the limit with --max-rejects"
    seen: int = 0
    rejected: int = 0
    reason: str = "see quarantine"

    def take(self, episodes: int, rejects: Sequence[Reject]) -> None:
        """Count what came back: a unit, or several, of so many episodes.

        Raises:
            RejectLimitError: that was one too many.
        """
        self.seen += episodes
        self.rejected += sum(r.episodes for r in rejects)
        self.reason = rejects[-1].message if rejects else self.reason
        if self.seen >= JUDGE_AFTER and self.rejected > self.limit * self.seen:
            raise RejectLimitError(
                f"{self.stage}: {self.rejected} of {self.seen} episodes rejected, more than {self.limit:.0%}; last reason: "
                f"{self.reason}. Fix the source, {self.advice}"
            )


class _Calls:
    """Arguments of `prepare`, built as they are handed out: a million units cost no million tuples.

    A unit that another run commits before its turn comes is not handed out at all.
    """

    def __init__(self, stage: Stage, units: Sequence[Unit], elsewhere: Container[str]) -> None:
        self._stage, self._units, self._elsewhere = stage, units, elsewhere
        self.skipped: list[Unit] = []

    def __len__(self) -> int:
        return len(self._units)

    def __iter__(self) -> Iterator[tuple[Stage, Unit]]:
        for unit in self._units:
            if unit.mark in self._elsewhere:
                self.skipped.append(unit)
            else:
                yield self._stage, unit


def _work(stage: Stage, todo: Sequence[Unit], run: str, execution: Execution, judge: Judge, repair: bool) -> Iterator[UnitReport]:
    committer = Committer(stage, run, run_units=len(todo), repair=repair)
    calls = _Calls(stage, todo, () if repair else committer.elsewhere)
    with committer:
        for (_, unit), result in run_all(prepare, calls, execution, gpus=gpus_of(stage)):
            finished = result if isinstance(result, Finished) else crashed(unit, result)
            yield from committer.add(finished)
            judge.take(unit.episodes, finished.rejects)
        yield from committer.flush()
    yield from (UnitReport(u.id, u.label, u.dataset, "skipped") for u in calls.skipped)
