"""Prefect tasks over the unit loop. A task is a batch of units; it returns ids and counts, and is tried again only when storage fails.

Exactly-once does not depend on anything here: a task that runs twice finds the units of its first try committed.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.tasks import exponential_backoff

from flows.transport import Guarded, is_transport
from pipelines.executors import Execution
from pipelines.record.spec import RecordSpec
from pipelines.unit import Stage, Unit, UnitReport, execute_batch, gpus_of, outstanding, run_stage

TASKS_PER_STAGE = 64  # a task run costs about 50 kB of Prefect's database and 50 ms
RETRIES, BACKOFF_S = 3, 10
GPU_LIMIT = "gpu"  # a global concurrency limit: GPUs in use, whichever flow uses them


def _may_help(_task: Any, _run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transport(error)


AGAIN: dict[str, Any] = {
    "cache_policy": NO_CACHE, "persist_result": False, "retries": RETRIES, "retry_delay_seconds": exponential_backoff(BACKOFF_S),
    "retry_jitter_factor": 0.5, "retry_condition_fn": _may_help,
}  # fmt: skip


@task(name="plan", **AGAIN)
def plan_stage(stage: Stage) -> tuple[list[Unit], list[Unit]]:
    """List a stage's units, and those of them that are open. Kept in memory only."""
    planned = list(stage.plan())
    return planned, outstanding(stage, planned)


@task(name="units", **AGAIN)
def run_batch(stage: Stage, units: Sequence[Unit], run: str, until: float | None = None) -> list[UnitReport]:
    """Do a batch of units, one after the other, until the time is up; the reports hold ids, counts and reasons."""
    gpus = gpus_of(stage)
    with concurrency(GPU_LIMIT, occupy=gpus) if gpus else nullcontext():
        return execute_batch(Guarded(stage), units, run, until)


@task(name="cluster", **AGAIN)
def run_on_cluster(
    stage: Stage, scheduler: str, stop_rejects: float, until: float | None, on_unit: Callable[[UnitReport], None]
) -> list[UnitReport]:
    """Do the open units of a stage on a Dask cluster: one task, however many units."""
    execution = Execution("dask", scheduler=scheduler, until=until)
    report = run_stage(Guarded(stage), execution=execution, stop_rejects=stop_rejects, on_unit=on_unit)
    return [u for u in report.units if u.status not in ("skipped", "left")]


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


def batches(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Cut units into at most `TASKS_PER_STAGE` tasks."""
    size = max(math.ceil(len(units) / TASKS_PER_STAGE), 1)
    for start in range(0, len(units), size):
        yield list(units[start : start + size])
