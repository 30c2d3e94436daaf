"""What a unit that does nothing costs: in a plain loop, in worker processes, on Dask, and as a Prefect task of its own.

A run of many units less a run of few, divided by the difference: starting pools, connecting and committing the group are left out, what
grows with the number of units is not. Cluster and Prefect server are up before the clock starts. A flow puts several units into a task
where there are more than 64; here each task is one unit, which is the worst case.

    python -m benchmarks.operations_overhead [--quick] [--json]
"""

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import goal, main
from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.unit import Output, Unit, run_stage

DASK_GOAL_MS, PREFECT_GOAL_MS = 10.0, 60.0
FEW, MANY, PREFECT_FEW, PREFECT_MANY = 50, 450, 4, 60


@dataclass(frozen=True)
class Nothing:
    """`count` units without work; `number` keeps the runs apart."""

    lake: Lake
    count: int
    number: int
    name: str = "nothing"

    def plan(self) -> list[Unit]:
        return [Unit(f"u-{self.number}-{i}", self.name, "bench", f"unit {i}", i, 1, 1) for i in range(self.count)]

    def work(self, _: Unit) -> Output:
        return Output(rows=1)


class Cases:
    """Runs stages of nothing in different places, each in a fresh lake."""

    def __init__(self, folder: Path, scheduler: str) -> None:
        self._folder, self._number, self._scheduler = folder, 0, scheduler

    def stage(self, count: int) -> Nothing:
        self._number += 1
        return Nothing(Lake.at(self._folder / f"lake-{self._number}"), count, self._number)

    def executor(self, execution: Execution) -> Callable[[int], float]:
        def timed(count: int) -> float:
            stage, started = self.stage(count), time.perf_counter()
            assert run_stage(stage, execution=execution).count("done") == count
            return time.perf_counter() - started

        return timed

    def dask(self) -> Callable[[int], float]:
        return self.executor(Execution("dask", scheduler=self._scheduler))

    def prefect(self, count: int) -> float:
        from prefect import flow

        from flows.run import RUNNER, Run

        @flow(name="nothing", task_runner=RUNNER, validate_parameters=False)
        def nothing() -> Any:
            run = Run("nothing", stage.lake)
            return run.do(stage).done

        stage, started = self.stage(count), time.perf_counter()
        assert nothing() == count
        return time.perf_counter() - started


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Take turns over the places."""
    warnings.simplefilter("ignore")
    from distributed import LocalCluster

    rounds = 3 if quick else 5
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name:
        options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as cluster, _prefect(Path(name)):
            cases = Cases(Path(name), cluster.scheduler_address)
            places: dict[str, tuple[Callable[[int], float], int, int]] = {
                "this process": (cases.executor(Execution(workers=0)), FEW, MANY),
                "Dask, two workers": (cases.dask(), FEW, MANY),
                "Prefect, a task per unit": (cases.prefect, PREFECT_FEW, PREFECT_MANY),
            }
            if not quick:  # starting the pool takes longer than all its units
                places["two worker processes"] = (cases.executor(Execution(workers=2)), FEW, MANY)
            for timed, few, _ in places.values():
                timed(few)  # pays for imports
            taken: dict[str, list[float]] = {place: [] for place in places}
            for _ in range(rounds):
                for place, (timed, few, many) in places.items():
                    base = timed(few)
                    taken[place].append((timed(many) - base) / (many - few) * 1e3)
    ms = {place: statistics.median(values) for place, values in taken.items()}
    rows = [{"case": p, "turns": rounds, "ms_per_unit": round(v, 2)} for p, v in ms.items()]
    dask, prefect = ms["Dask, two workers"], ms["Prefect, a task per unit"]
    return rows, [
        goal("dask_overhead_ms_per_unit", f"< {DASK_GOAL_MS:.0f}", dask, dask < DASK_GOAL_MS),
        goal("prefect_overhead_ms_per_unit", f"< {PREFECT_GOAL_MS:.0f}", prefect, prefect < PREFECT_GOAL_MS),
    ]


def _prefect(folder: Path) -> Any:
    """Start a server with a database of its own."""
    os.environ |= {
        "PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }  # fmt: skip
    from prefect.testing.utilities import prefect_test_harness

    return prefect_test_harness(server_startup_timeout=180)


if __name__ == "__main__":
    main("operations_overhead", (__doc__ or "").splitlines()[0], run)
