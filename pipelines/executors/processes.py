"""Worker processes of this machine: a unit that kills its process, or never ends, costs that unit and nothing else."""

from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.reduction import ForkingPickler
from typing import Any

from pipelines.executors.execution import IN_FLIGHT_PER_WORKER, Call, Calls, Execution, Outcome, described
from schemas.errors import UsageError, WorkerCrashError

MAIN_MODULE = (
    'Workers import the main module again: guard its calls with `if __name__ == "__main__":`, do not run it from standard input, '
    "or use --workers 0 in this process"
)


def run_in_processes(function: Callable[..., Any], calls: Calls, workers: int, execution: Execution) -> Iterator[Outcome]:
    """Call `function` in `workers` spawned processes; see `run_all`.

    Raises:
        UsageError: a call cannot travel to a worker process, or none can start.
    """
    import multiprocessing

    from pebble import ProcessExpired, ProcessPool

    # spawn: deltalake's runtime and open decoders do not survive a fork
    context: Any = multiprocessing.get_context("spawn")
    waiting, running, timeout = execution.in_time(calls), dict[Any, Call](), execution.timeout_s
    with ProcessPool(max_workers=workers, context=context) as pool:
        try:
            while True:
                while len(running) < workers * IN_FLIGHT_PER_WORKER and (call := next(waiting, None)) is not None:
                    running[pool.schedule(load_and_call, args=packed(function, call), timeout=timeout)] = call
                if not running:
                    break
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
        except BrokenProcessPool as error:
            pool.stop()
            raise UsageError(f"the worker processes die before they take any work. {MAIN_MODULE}") from error
        except BaseException:
            pool.stop()
            raise


def packed(function: Callable[..., Any], call: Call) -> tuple[str, bytes]:
    """Turn a call into what a worker can take in without understanding it: the pool itself hangs on what it cannot load.

    Raises:
        UsageError: the call cannot be pickled; the message names the stage.
    """
    what = described(function, call)
    try:
        return what, bytes(ForkingPickler.dumps((function, call)))
    except Exception as error:
        raise UsageError(
            f"{what} cannot be sent to a worker process: {error}; use --workers 0, or make it of plain values"
        ) from error


def load_and_call(what: str, payload: bytes) -> Any:
    """Do a packed call; runs in the worker.

    Raises:
        UsageError: this process cannot load the stage.
    """
    try:
        function, call = ForkingPickler.loads(payload)
    except Exception as error:
        raise UsageError(
            f"a worker process cannot load {what}: {type(error).__name__}: {error}. Its class must be importable there; "
            "use --workers 0 to run in this process"
        ) from error
    return function(*call)
