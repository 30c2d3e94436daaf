"""Where units run: `local` (this process, or worker processes) and `dask`. One call for both, nothing hand-made in between."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import DependencyError, UsageError, WorkerCrashError

IN_FLIGHT_PER_WORKER = 2  # bounds memory: submitted, not yet finished units


@dataclass(frozen=True, slots=True)
class Execution:
    """How to run units.

    Attributes:
        kind: `local` or `dask`.
        workers: processes; 0 means in this process. None picks one per core, and none at all for a single unit.
        scheduler: address of a running Dask scheduler; without it `dask` starts a local cluster.
        timeout_s: a unit running longer is killed and quarantined (worker processes only).
    """

    kind: Literal["local", "dask"] = "local"
    workers: int | None = None
    scheduler: str | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("local", "dask"):
            raise UsageError(f"executor {self.kind!r} is unknown; use 'local' or 'dask'")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers} makes no sense; use 0 to run in this process")


type Call = tuple[Any, ...]
type Outcome = tuple[Call, Any]


def run_all(function: Callable[..., Any], calls: Sequence[Call], execution: Execution) -> Iterator[Outcome]:
    """Call `function(*call)` for every call, yielding `(call, result)` as they end.

    A call whose worker died or ran out of time yields a `WorkerCrashError` in place of the result; any other exception
    propagates and cancels what has not started.
    """
    workers = execution.workers
    if workers is None:
        workers = 0 if len(calls) < 2 else min(len(calls), os.cpu_count() or 1)
    if execution.kind == "dask":
        yield from _dask(function, calls, execution, max(workers, 1))
    elif workers == 0:
        for call in calls:
            yield call, function(*call)
    else:
        yield from _processes(function, calls, workers, execution.timeout_s)


def _processes(function: Callable[..., Any], calls: Sequence[Call], workers: int, timeout: float | None) -> Iterator[Outcome]:
    import multiprocessing

    from pebble import ProcessExpired, ProcessPool

    # spawn: deltalake's runtime and open decoders do not survive a fork
    context: Any = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=workers, context=context) as pool:
        waiting = list(reversed(calls))
        running: dict[Any, Call] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers * IN_FLIGHT_PER_WORKER:
                    call = waiting.pop()
                    running[pool.schedule(function, args=call, timeout=timeout)] = call
                future = next(as_completed(running))
                call = running.pop(future)
                try:
                    yield call, future.result()
                except ProcessExpired as error:
                    yield (
                        call,
                        WorkerCrashError(f"the worker process died (exit code {error.exitcode}) while working on this unit"),
                    )
                except FutureTimeout:
                    yield call, WorkerCrashError(f"the unit ran longer than {timeout} s and was stopped")
        except BaseException:
            pool.stop()
            raise


def _dask(function: Callable[..., Any], calls: Sequence[Call], execution: Execution, workers: int) -> Iterator[Outcome]:
    try:
        from distributed import Client, LocalCluster
        from distributed import as_completed as completed
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise DependencyError("the dask executor needs the 'distributed' package") from error
    local: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    cluster = None if execution.scheduler else LocalCluster(**local)
    try:
        with Client(execution.scheduler or cluster) as client:
            waiting, running = list(reversed(calls)), {}
            flow: Any = completed()
            limit = IN_FLIGHT_PER_WORKER * max(len(client.scheduler_info(n_workers=-1)["workers"]), 1)
            while waiting or running:
                while waiting and len(running) < limit:
                    call = waiting.pop()
                    future = client.submit(function, *call, pure=False)
                    running[future.key] = call
                    flow.add(future)
                future = next(flow)
                call = running.pop(future.key)
                try:
                    yield call, future.result()
                except KilledWorker as error:
                    yield call, WorkerCrashError(f"Dask lost every worker that tried this unit: {error}")
    finally:
        if cluster is not None:
            cluster.close()
