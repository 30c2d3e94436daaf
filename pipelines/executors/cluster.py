"""Units on Dask: a cluster of this machine, or one that runs already. A few units per worker are under way at a time, however many wait.

A unit whose worker is lost goes to another worker; the lake's markers make the second try harmless. A unit that costs several
workers in a row is given up and quarantined.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.executors.execution import IN_FLIGHT_PER_WORKER, Call, Calls, Execution, Outcome, described
from pipelines.executors.processes import MAIN_MODULE
from pipelines.executors.versions import check_same, versions
from schemas.errors import DependencyError, TransportError, UsageError, WorkerCrashError

LOOK_EVERY_S = 2.0  # how often to ask which workers there are
ALONE_S = 120.0  # how long to go on without any worker
CONNECT_S = 20.0


def run_on_dask(function: Callable[..., Any], calls: Calls, execution: Execution, gpus: int) -> Iterator[Outcome]:
    """Call `function` on a cluster's workers; see `pipelines.executors.run_all`.

    Raises:
        DependencyError: `distributed` is not installed.
        UsageError: workers cannot load the calls, have other versions, or offer no GPU where one is needed.
        TransportError: the scheduler does not answer, or no worker came back.
    """
    try:
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise DependencyError("the dask executor needs the 'distributed' package") from error
    with _client(execution, len(calls), gpus) as client:
        workers, waiting, running = Workers(client, execution.scheduler, gpus), execution.in_time(calls), dict[Any, Call]()
        while True:
            room = IN_FLIGHT_PER_WORKER * workers.count() - len(running)
            if room <= 0 and not running:
                time.sleep(LOOK_EVERY_S / 10)  # no worker is there yet
                continue
            while room > 0 and (call := next(waiting, None)) is not None:
                running[_submit(client, function, call, gpus)] = call
                room -= 1
            if not running:
                return
            for future in workers.wait(list(running)):
                call = running.pop(future)
                try:
                    yield call, _result(future, function, call)
                except KilledWorker as error:
                    yield call, WorkerCrashError(f"Dask lost every worker that tried this unit: {error}")


class Workers:
    """The workers of a cluster that can do the work: counted, checked as they come, and missed when they go."""

    def __init__(self, client: Any, address: str | None, gpus: int) -> None:
        self._client, self._address, self._gpus = client, address, gpus
        self._known, self._count, self._looked, self._alone = set[str](), 0, 0.0, 0.0
        self._where = address or "this machine's cluster"
        if not self.count() and gpus:
            raise UsageError(
                f"the work needs a GPU and no worker of {self._where} offers one; start workers with "
                f"`dask worker {address or 'tcp://host:8786'} --nthreads 1 --resources GPU=1`, or choose the CPU with --device cpu"
            )

    def count(self) -> int:
        """Return how many there are now.

        Raises:
            UsageError: one of them has other versions than this process.
            TransportError: there has been none for `ALONE_S`.
        """
        now = time.monotonic()
        if self._count and now - self._looked < LOOK_EVERY_S:
            return self._count
        found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        able = {a for a, about in found.items() if about.get("resources", {}).get("GPU", 0) >= self._gpus or not self._gpus}
        if self._address and (fresh := sorted(able - self._known)):
            answers = _versions_of(self._client, fresh)
            check_same(answers, self._where)
            self._known |= answers.keys()
        self._count, self._looked = len(able), now
        self._alone = 0.0 if able else self._alone or now
        if self._alone and now - self._alone > ALONE_S:
            raise TransportError(
                f"{self._where} has had no worker for {ALONE_S:.0f} s; start workers, then run again: what was done stays"
            )
        return self._count

    def wait(self, futures: list[Any]) -> list[Any]:
        """Return the futures that have ended, at least one.

        Raises:
            TransportError: the cluster is gone.
        """
        from distributed import wait

        while True:
            try:
                return list(wait(futures, timeout=LOOK_EVERY_S, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                self.count()


@contextmanager
def _client(execution: Execution, calls: int, gpus: int) -> Generator[Any]:
    from distributed import Client

    if execution.scheduler is None:
        try:
            started = _local_cluster(execution, calls, gpus)
        except RuntimeError as error:
            raise UsageError(f"a Dask cluster of this machine does not start: {error}. {MAIN_MODULE}") from error
        with started as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(execution.scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise TransportError(
            f"no Dask scheduler answers at {execution.scheduler} within {CONNECT_S:.0f} s: {error}; start one with `dask scheduler`"
        ) from error
    with client:
        yield client


def _local_cluster(execution: Execution, calls: int, gpus: int) -> Any:
    """Start worker processes on this machine; with GPUs one per GPU, which sees no other."""
    from distributed import LocalCluster, Nanny, Scheduler, SpecCluster

    workers = execution.workers or max(min(calls, os.cpu_count() or 1), 1)
    if not gpus:
        options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        return LocalCluster(**options)
    devices = _devices()
    spec: dict[int, dict[str, Any]] = {
        i: {"cls": Nanny, "options": {"nthreads": 1, "resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": device}}}
        for i, device in enumerate(devices[: execution.workers or len(devices)])
    }
    return SpecCluster(spec, scheduler={"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": ":0"}})


def _devices() -> list[str]:
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [d.strip() for d in named.split(",") if d.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _submit(client: Any, function: Callable[..., Any], call: Call, gpus: int) -> Any:
    resources = {"GPU": gpus} if gpus else None
    try:
        return client.submit(function, *call, pure=False, resources=resources)
    except (TypeError, AttributeError) as error:
        raise UsageError(f"{described(function, call)} cannot be sent to a Dask worker: {error}") from error


def _result(future: Any, function: Callable[..., Any], call: Call) -> Any:
    """Return what a future holds, in the house's errors where it is the cluster that failed.

    Raises:
        UsageError: the worker could not load the call.
        TransportError: the scheduler forgot it.
    """
    from concurrent.futures import CancelledError

    try:
        return future.result()
    except CancelledError as error:
        raise TransportError("the Dask scheduler went away with work under way; run again: what was done stays") from error
    except RuntimeError as error:
        if "Error during deserialization" not in str(error):
            raise
        raise UsageError(f"a Dask worker cannot load {described(function, call)}: {error.__cause__ or error}") from error


def _versions_of(client: Any, workers: list[str]) -> dict[str, dict[str, str]]:
    """Ask workers for their versions; one that went away meanwhile is left out.

    Raises:
        UsageError: a worker has no cotrain, or one without this question.
    """
    answers: dict[str, Any] = client.run(versions, workers=workers, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException) and not isinstance(answer, OSError):
            raise UsageError(
                f"the Dask worker {worker} does not know this version of cotrain ({type(answer).__name__}: {answer}); "
                "install the same version there and restart its workers"
            )
    return {worker: answer for worker, answer in answers.items() if not isinstance(answer, OSError)}
