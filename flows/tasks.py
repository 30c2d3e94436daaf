"""Prefect tasks over the unit loop. A task is a batch of units; it returns ids and counts, and is tried again only when storage fails.

Exactly-once does not depend on anything here: a task that runs twice finds the units of its first try committed.
"""

import errno
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.tasks import exponential_backoff

from catalog.lake import Lake
from flows.artifacts import Progress
from flows.summary import Summary, summarise
from pipelines.record.spec import RecordSpec
from pipelines.unit import JUDGE_AFTER, STOP_REJECTS, Output, Stage, Unit, UnitReport, execute_batch, pending
from schemas.errors import ConflictError, CotrainError, DataError, RejectLimitError, TransportError
from schemas.ids import short_id

TASKS_PER_STAGE = 64  # a task run costs about 50 kB of Prefect's database and 50 ms
RETRIES, BACKOFF_S = 3, 10
HICCUPS = {
    errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.EREMOTEIO,
}  # fmt: skip
CLIENTS = {"aiohttp", "botocore", "urllib3", "requests", "httpx", "httpcore", "gcsfs"}  # whose errors concern the network


@dataclass(frozen=True, slots=True)
class Guarded:
    """A stage whose hiccups are raised instead of quarantined: the input is not at fault."""

    stage: Stage

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage.name

    @property
    def lake(self) -> Lake:
        """Where results go."""
        return self.stage.lake

    def plan(self) -> Sequence[Unit]:
        """Plan as the stage does."""
        return self.stage.plan()

    def work(self, unit: Unit) -> Output:
        """Work as the stage does.

        Raises:
            TransportError: storage or network failed; the unit is left undone.
        """
        try:
            return self.stage.work(unit)
        except Exception as error:
            if is_transport(error):
                raise TransportError(f"{unit.label}: {type(error).__name__}: {error}") from error
            raise


def is_transport(error: BaseException) -> bool:
    """Tell whether trying again may help: errors of the network, of storage, and lost commit races; never bad data."""
    if isinstance(error, (TransportError, ConflictError)):
        return True
    if isinstance(error, DataError):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno in HICCUPS):
        return True
    if any(kind.__module__.partition(".")[0] in CLIENTS for kind in type(error).__mro__):
        return True
    return error.__cause__ is not None and not isinstance(error, CotrainError) and is_transport(error.__cause__)


def _may_help(_task: Any, _run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transport(error)


@task(
    name="units", cache_policy=NO_CACHE, persist_result=False, retries=RETRIES, retry_delay_seconds=exponential_backoff(BACKOFF_S),
    retry_jitter_factor=0.5, retry_condition_fn=_may_help,
)  # fmt: skip
def run_batch(stage: Stage, units: Sequence[Unit], run: str) -> list[UnitReport]:
    """Do a batch of units, one after the other; the reports hold ids, counts and reasons."""
    return execute_batch(Guarded(stage), units, run)


@task(name="record", cache_policy=NO_CACHE, persist_result=False)
def record_episodes(spec: RecordSpec, out: Path, workers: int | None = None) -> dict[str, int]:
    """Record the demonstrations that are not there yet; simulators run in worker processes."""
    from pipelines.record.record import record

    made = record(spec, out, workers=max(os.cpu_count() or 1, 1) if workers is None else workers)
    return {"episodes": made.episodes, "skipped": made.skipped, "successes": made.successes, "frames": made.frames}


@task(name="make", cache_policy=NO_CACHE, persist_result=False)
def make_stand_in(kind: str, uri: Path) -> bool:
    """Write a stand-in for real data this machine does not have; tell whether there was anything to do."""
    from pipelines.record import demo_sets

    makers = {"lerobot": demo_sets.write_lerobot_set, "human_video": demo_sets.write_ego_clip}
    if uri.exists() or kind not in makers:
        return False
    makers[kind](uri)
    return True


def run_units(stage: Stage, progress: Progress, label: str = "", stop_rejects: float = STOP_REJECTS) -> Summary:
    """Run the open units of a stage as tasks and wait for them: one step of a flow.

    Args:
        stage: what to do.
        progress: told after every batch.
        label: what to call it; the datasets of its units if empty.
        stop_rejects: share of rejected episodes above which the flow stops, judged from 20 episodes on.

    Raises:
        RejectLimitError: too much of the input is unusable; what was done stays committed.
    """
    planned, todo = list(stage.plan()), pending(stage)
    datasets = tuple(dict.fromkeys(u.dataset for u in planned))
    label = label or ", ".join(datasets)
    run = short_id("run", [stage.name, label, str(runtime.flow_run.id)])
    futures = [
        run_batch.with_options(task_run_name=f"{stage.name} {label} {i + 1}").submit(stage, batch, run)
        for i, batch in enumerate(_batches(todo))
    ]
    episodes, reports = {u.id: u.episodes for u in todo}, list[UnitReport]()
    for finished, future in enumerate(as_completed(futures), 1):
        reports += future.result()
        progress.within(finished / len(futures), f"{stage.name} {label}: {len(reports)} of {len(todo)} units")
        _judge(stage, reports, episodes, stop_rejects)
    summary = summarise(stage.name, label, planned, todo, reports)
    get_run_logger().info(summary.sentence)
    progress.advance(f"{stage.name} {label}")
    return summary


def _batches(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    size = max(math.ceil(len(units) / TASKS_PER_STAGE), 1)
    for start in range(0, len(units), size):
        yield list(units[start : start + size])


def _judge(stage: Stage, reports: Sequence[UnitReport], episodes: dict[str, int], limit: float) -> None:
    seen = sum(episodes[r.unit] for r in reports)
    rejects = [reject for r in reports for reject in r.rejects]
    rejected = sum(r.episodes for r in rejects)
    if seen >= JUDGE_AFTER and rejected > limit * seen:
        raise RejectLimitError(
            f"{stage.name}: {rejected} of {seen} episodes rejected, more than {limit:.0%}; last reason: {rejects[-1].message}. "
            "Fix the source, then run the flow again: what was done stays"
        )
