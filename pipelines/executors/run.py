"""The one call through which every unit runs, wherever that is."""

import os
from collections.abc import Callable, Iterator
from typing import Any

from pipelines.executors.execution import Calls, Execution, Outcome
from pipelines.executors.processes import run_in_processes


def run_all(function: Callable[..., Any], calls: Calls, execution: Execution, *, gpus: int = 0) -> Iterator[Outcome]:
    """Call `function(*call)` for every call, yielding `(call, result)` as they end.

    A call whose worker died or ran out of time yields a `WorkerCrashError` in place of the result; any other exception
    propagates and cancels what has not started. Calls that the deadline of `execution` kept from starting yield nothing.

    Args:
        function: importable by name where workers are other processes.
        calls: its arguments, one tuple per call.
        execution: where.
        gpus: GPUs each call needs. Dask workers offer them as the resource `GPU`.

    Raises:
        UsageError: workers cannot load the calls, run other versions than this process, or offer no GPU.
        TransportError: a Dask cluster went away.
    """
    if execution.kind == "dask":
        from pipelines.executors.cluster import run_on_dask

        yield from run_on_dask(function, calls, execution, gpus)
    elif workers := _processes(len(calls), execution, gpus):
        yield from run_in_processes(function, calls, workers, execution)
    else:
        for call in execution.in_time(calls):
            yield call, function(*call)


def _processes(calls: int, execution: Execution, gpus: int) -> int:
    if execution.workers is not None:
        return execution.workers
    if execution.timeout_s is not None:
        return max(min(calls, os.cpu_count() or 1), 1)  # only another process can be killed
    return 0 if calls < 2 or gpus else min(calls, os.cpu_count() or 1)
