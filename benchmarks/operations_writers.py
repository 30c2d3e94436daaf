"""Eight processes append to the same tables a hundred times each: every commit lands, each unit once, and how often they had to try again.

Each writer appends to `shards` and `runs`; a tenth of its units is every writer's. Forked from a process that has started nothing.

    python -m benchmarks.operations_writers [--quick] [--json]
"""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import goal, main

WRITERS, EACH, SHARED = 8, 100, 10


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Let the writers loose and count what landed."""
    each, home = 10 if quick else EACH, Path(tempfile.mkdtemp(prefix="cotrain-writers-"))
    try:
        begun = time.perf_counter()
        children = [_fork(home, writer, each) for writer in range(WRITERS)]
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        seconds = time.perf_counter() - begun
        assert ends == [0] * WRITERS, ends
        row = _count(home, each) | {"seconds": round(seconds, 1), "commits_per_s": round(2 * WRITERS * each / seconds, 1)}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    wanted = WRITERS * each + min(SHARED, each)
    return [row], [
        goal("units in each table", f"{wanted}, each once", row["units"], row["units"] == wanted and row["rows"] == 2 * wanted),
        goal("commits", f"{2 * wanted}", row["commits"], row["commits"] == 2 * wanted),
    ]  # fmt: skip


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


def _count(home: Path, each: int) -> dict[str, Any]:
    """Count what landed; only after the last fork may this process start threads of its own."""
    catalog = Catalog(Lake.at(home / "lake"))
    told = [json.loads((home / f"writer-{w}.json").read_text()) for w in range(WRITERS)]
    frames = [catalog.scan(t).select("unit").collect() for t in ("shards", "runs")]
    commits = [c for t in ("shards", "runs") for c in catalog.open(t).history() if c["operation"] == "WRITE"]
    units = {frame["unit"].n_unique() for frame in frames}
    return {
        "case": f"{WRITERS} writers x {each} units x 2 tables", "units": units.pop() if len(units) == 1 else -1,
        "rows": sum(f.height for f in frames), "commits": len(commits),
        "retries_inside_delta": sum(c["operationMetrics"]["num_retries"] for c in commits), "retries_of_ours": sum(t["retries"] for t in told),
        "already_there": sum(t["lost"] for t in told),
    }  # fmt: skip


if __name__ == "__main__":
    import numpy  # noqa: F401, ICN001 (imported here so that forks find them loaded)
    import pandas  # noqa: F401, ICN001
    import pyarrow as pa
    from fsspec.implementations import local  # noqa: F401

    from catalog.append import Part
    from catalog.lake import Lake
    from catalog.tables import Catalog

    main("operations_writers", (__doc__ or "").splitlines()[0], run)
