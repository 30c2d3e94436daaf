"""Eight processes append to the same tables a hundred times each: every commit lands, each unit once, and how often they had to try again.

Each writer appends to `shards` and `runs`; a tenth of its units is every writer's. Forked from a process that has started nothing.

    python -m benchmarks.operations_writers [--quick] [--json]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import goal, main

WRITERS, EACH, SHARED = 8, 100, 10
ROOT = Path(__file__).resolve().parents[1]


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Let the writers loose, in a process of its own, and compare with what was to land."""
    each = 10 if quick else EACH
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.operations_writers", "--apart", str(each)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    row, wanted = json.loads(done.stdout.splitlines()[-1]), WRITERS * each + min(SHARED, each)
    return [row], [
        goal("units in each table", f"{wanted}, each once", row["units"], row["units"] == wanted and row["rows"] == 2 * wanted),
        goal("commits", f"{2 * wanted}", row["commits"], row["commits"] == 2 * wanted),
    ]  # fmt: skip


def _apart(each: int) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="cotrain-writers-"))
    try:
        begun = time.perf_counter()
        children = [_fork(home, writer, each) for writer in range(WRITERS)]
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        seconds = time.perf_counter() - begun
        assert ends == [0] * WRITERS, [f.read_text() for f in home.glob("error-*")]
        row = _count(home)
        return row | {"case": f"{WRITERS} writers x {each} units x 2 tables", "seconds": round(seconds, 1),
                      "commits_per_s": round(row["commits"] / seconds, 1)}  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _fork(home: Path, writer: int, each: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _write(home, writer, each)
    except BaseException as error:
        (home / f"error-{writer}").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def _write(home: Path, writer: int, each: int) -> None:
    retries = lost = 0
    catalog = Catalog(Lake.at(home / "lake"))
    units = [f"own-{writer}-{n}" for n in range(each)] + [f"shared-{n}" for n in range(min(SHARED, each))]
    for unit in units:
        for table, rows in (("shards", pa.table({"uri": [unit]})), ("runs", pa.table({"run": [unit]}))):
            done = catalog.append_all(table, [Part(unit, rows)])
            retries, lost = retries + done.retries, lost + (not done.marks)
    (home / f"writer-{writer}.json").write_text(json.dumps({"retries": retries, "lost": lost}))


def _count(home: Path) -> dict[str, Any]:
    """Count what landed; only after the last fork may this process start threads of its own."""
    catalog = Catalog(Lake.at(home / "lake"))
    told = [json.loads((home / f"writer-{w}.json").read_text()) for w in range(WRITERS)]
    frames = [catalog.scan(t).select("unit").collect() for t in ("shards", "runs")]
    commits = [c for t in ("shards", "runs") for c in catalog.open(t).history() if c["operation"] == "WRITE"]
    units = {frame["unit"].n_unique() for frame in frames}
    return {
        "units": units.pop() if len(units) == 1 else -1,
        "rows": sum(f.height for f in frames), "commits": len(commits),
        "retries_inside_delta": sum(c["operationMetrics"]["num_retries"] for c in commits), "retries_of_ours": sum(t["retries"] for t in told),
        "already_there": sum(t["lost"] for t in told),
    }  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--apart"]:
        import numpy  # noqa: F401, ICN001 (imported here so that forks find them loaded)
        import pandas  # noqa: F401, ICN001
        import pyarrow as pa
        from fsspec.implementations import local  # noqa: F401

        from catalog.append import Part
        from catalog.lake import Lake
        from catalog.tables import Catalog

        print(json.dumps(_apart(int(sys.argv[2]))))
    else:
        main("operations_writers", (__doc__ or "").splitlines()[0], run)
