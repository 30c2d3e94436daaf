"""Kills a run at random times of its work and runs it again: the lake must equal one that was never interrupted, every time.

    python -m benchmarks.crash [--trials 200] [--executor local|processes|dask] [--seed 0] [--json]

`local` and `dask` kill the coordinating process (Dask's workers live on and may still write), `processes` it and its workers. One
process per run is forked from this one, which has imported everything and started nothing, so that a trial costs a second, not ten.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.harness import machine

UNITS, BUSY_S = 16, 0.02
EXECUTORS = ("local", "processes", "dask")


def main() -> None:
    """Run the trials and print what was seen."""
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--executor", choices=EXECUTORS, default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="10 trials")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trials = 10 if arguments.quick else arguments.trials
    started, home = time.perf_counter(), Path(tempfile.mkdtemp(prefix="cotrain-crash-"))
    cluster, address = _start_dask(home) if arguments.executor == "dask" else (None, "")
    try:
        found = _trials(home, arguments.executor, address, trials, arguments.seed)
    finally:
        if cluster is not None:
            os.killpg(cluster.pid, signal.SIGKILL)
            cluster.wait()
        shutil.rmtree(home, ignore_errors=True)
    head = {"name": "crash", "machine": machine(), "executor": arguments.executor, "seed": arguments.seed, "trials": trials}
    report = {**head, "seconds": round(time.perf_counter() - started, 1), **found}
    print(json.dumps(report) if arguments.json else "\n".join(f"{k}: {v}" for k, v in report.items()))
    sys.exit(0 if found["equal"] == trials else 1)


def _trials(home: Path, executor: str, address: str, trials: int, seed: int) -> dict[str, object]:
    chance, states = random.Random(seed), Counter[str]()
    assert _wait(_fork(lambda: _run(home / "whole", executor, address))) == 0
    first, span = _pace(home / "warm", executor, address)
    whole, equal, killed, finished_first = _digest(home / "whole", executor), 0, 0, 0
    assert _digest(home / "warm", executor) == whole
    while killed < trials:
        lake = home / f"t{killed + finished_first}"
        child = _fork(lambda lake=lake: _run(lake, executor, address))
        if _kill_after(child, chance.uniform(0.7 * first, span)) == 0:
            finished_first += 1  # the moment came too late: this one says nothing
            shutil.rmtree(lake)
            continue
        killed += 1
        states[_state(lake)] += 1
        again = _wait(_fork(lambda lake=lake: _run(lake, executor, address)))
        same = again == 0 and _digest(lake, executor) == whole
        equal += same
        if same:
            shutil.rmtree(lake)
        else:
            print(f"kill {killed}: the rerun ended with {again} and the lake differs: {lake}", file=sys.stderr)
    return {
        "first_file_s": round(first, 2), "uninterrupted_s": round(span, 2), "equal": equal, "killed": killed, "finished_before_the_kill": finished_first, "killed_in": dict(states),
    }  # fmt: skip


def _pace(lake: Path, executor: str, address: str) -> tuple[float, float]:
    """Return when a run that is left alone has its first file, and when it ends: before that first one there is little to break."""
    begun, first = time.perf_counter(), 0.0
    child = _fork(lambda: _run(lake, executor, address))
    while not os.waitpid(child, os.WNOHANG)[0]:
        if not first and (lake / "shards").exists():
            first = time.perf_counter() - begun
        time.sleep(0.002)
    return first, time.perf_counter() - begun


def _run(lake: Path, executor: str, address: str) -> None:
    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.unit import run_stage
    from tests.support.crash_stage import CrashStage

    execution = {
        "local": lambda: Execution(workers=0),
        "processes": lambda: Execution(workers=2),
        "dask": lambda: Execution("dask", scheduler=address),
    }[executor]()
    run_stage(CrashStage(Lake.at(lake), UNITS, BUSY_S), execution=execution)


def _state(lake: Path) -> str:
    """Say how far a killed run had come, by what lies in its lake."""
    log = lake / "catalog" / "runs" / "_delta_log"
    if log.is_dir() and len(list(log.glob("*.json"))) > 1:
        return "after a first commit"
    if list(lake.glob("receipts/*")):
        return "after a receipt"
    return "after a file" if list(lake.glob("shards/toy/*")) else "before any file"


def _digest(lake: Path, executor: str) -> str:
    """Hash all a lake holds, in a process of its own; leftovers are swept first. Dask's orphaned units may still end: wait for them."""
    if executor == "dask":
        time.sleep(4 * BUSY_S)
    target = lake.with_suffix(".digest")

    def work() -> None:
        from catalog.lake import Lake
        from pipelines.sweep import sweep
        from tests.support.crash_stage import contents

        sweep(Lake.at(lake), older_than_s=-60)
        body = json.dumps(contents(Lake.at(lake)), sort_keys=True)
        target.write_text(hashlib.sha256(body.encode()).hexdigest())

    assert _wait(_fork(work)) == 0
    return target.read_text()


def _fork(work: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's idle threads; nothing here waits for them
        child = os.fork()
    if child:
        return child
    os.setsid()
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _kill_after(child: int, seconds: float) -> int:
    """Kill a process and what it started after so long; return how it ended, which may be before."""
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return _wait(child)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _start_dask(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a scheduler and two workers in a process group of their own; return it and the address."""
    code = (
        "import sys, time\nfrom distributed import LocalCluster\nif __name__ == '__main__':\n"
        " c = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)\n"
        " open(sys.argv[1] + '.new', 'w').write(c.scheduler_address); import os; os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        " time.sleep(3600)"
    )
    script, told = home / "cluster.py", home / "address"
    script.write_text(code)
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, str(script), str(told)], cwd=root, start_new_session=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    while not told.exists():
        time.sleep(0.2)
        assert process.poll() is None, "the cluster did not start"
    return process, told.read_text()


if __name__ == "__main__":
    import numpy  # noqa: F401, ICN001 (imported here so that forks find them loaded)
    import pandas  # noqa: F401, ICN001
    from fsspec.implementations import local  # noqa: F401

    import pipelines.sweep  # noqa: F401
    import tests.support.crash_stage  # noqa: F401

    main()
