"""A plan of a million units that do nothing: planned, compared with what is committed, submitted, committed; time and peak memory.

Each step runs in a process of its own, so that its peak memory is its own. The lake is made once per size: its `runs` table holds as
many committed units as are asked for, written as a real run would have, in grouped commits.

    python -m benchmarks.operations_scale [--quick] [--json]
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import goal, main

UNITS, QUICK_UNITS = 1_000_000, 50_000
ROOT = Path(__file__).resolve().parents[1]
MOST_MB = 1000


@dataclass(frozen=True)
class NoOp:
    """`count` units from `first` on that make nothing but their row in `runs`."""

    lake: Any
    count: int
    first: int = 0
    name: str = "noop"

    def plan(self) -> list[Any]:
        from pipelines.unit import Unit
        from schemas.ids import unit_id

        return [
            Unit(unit_id(self.name, [n], None, "1"), self.name, "scale", f"noop {n}", n, 1 << 28, 100)
            for n in range(self.first, self.first + self.count)
        ]

    def work(self, unit: Any) -> Any:  # noqa: ARG002
        from pipelines.unit import Output

        return Output()


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure each step in its own process."""
    count = QUICK_UNITS if quick else UNITS
    home = Path(tempfile.mkdtemp(prefix="cotrain-scale-"))
    try:
        lake = str(home / "lake")
        steps = [
            ("plan", count), ("commit", count), ("diff", count), ("move on", count), ("compact", count), ("diff", count), ("open", count),
        ]  # fmt: skip
        rows = [_apart(step, lake, size) for step, size in steps]
    finally:
        shutil.rmtree(home, ignore_errors=True)
    worst = max(row["peak_mb"] for row in rows)
    per_unit = next(r["ms_per_unit"] for r in rows if r["case"] == "commit")
    return rows, [
        goal("peak memory of any step, MB", f"under {MOST_MB}", worst, worst < MOST_MB),
        goal("commit of a unit that does nothing, ms", "under 10", per_unit, per_unit < 10),
    ]


def _apart(step: str, lake: str, count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.operations_scale", "--step", step, lake, str(count)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _step(step: str, root: str, count: int) -> dict[str, Any]:
    from catalog.lake import Lake

    lake, before = Lake.at(root), _peak_mb()
    start = time.perf_counter()
    more = STEPS[step](lake, count)
    seconds = time.perf_counter() - start
    return {
        "case": step, "units": count, "seconds": round(seconds, 2), "ms_per_unit": round(seconds / count * 1e3, 4), "peak_mb": round(_peak_mb()),
        "imports_mb": round(before), **more,
    }  # fmt: skip


def _plan(lake: Any, count: int) -> dict[str, Any]:
    return {"planned": len(NoOp(lake, count).plan())}


def _commit(lake: Any, count: int) -> dict[str, Any]:
    """The whole run: plan, compare, hand out, commit."""
    return {"done": _run(lake, count).count("done")}


def _diff(lake: Any, count: int) -> dict[str, Any]:
    """The same plan again: nothing is left to do."""
    return {"skipped": _run(lake, count).count("skipped"), "files": _files(lake)}


def _move_on(lake: Any, count: int) -> dict[str, Any]:
    """A plan of which 1 % is new."""
    report = _run(lake, count, first=count // 100)
    return {"done": report.count("done"), "skipped": report.count("skipped")}


def _run(lake: Any, count: int, first: int = 0) -> Any:
    from pipelines.executors import Execution
    from pipelines.unit import run_stage

    return run_stage(NoOp(lake, count, first), execution=Execution(workers=0))


def _compact(lake: Any, count: int) -> dict[str, Any]:  # noqa: ARG001
    from catalog.maintain import compact

    return {"files": compact(lake)["runs"]}


def _open(lake: Any, count: int) -> dict[str, Any]:  # noqa: ARG001
    """What a first look at the catalog costs now."""
    from catalog.tables import Catalog

    start = time.perf_counter()
    version = Catalog(lake).version("runs")
    return {"open_s": round(time.perf_counter() - start, 3), "version": version, "log_mb": _log_mb(lake)}


def _files(lake: Any) -> int:
    from deltalake import DeltaTable

    return len(DeltaTable(lake.table("runs")).file_uris())


def _log_mb(lake: Any) -> float:
    return round(sum(f.stat().st_size for f in Path(lake.table("runs")).rglob("*") if f.is_file()) / 1e6, 1)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


STEPS: dict[str, Callable[[Any, int], dict[str, Any]]] = {
    "plan": _plan, "commit": _commit, "diff": _diff, "move on": _move_on, "compact": _compact, "open": _open,
}  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(_step(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main("operations_scale", __doc__.splitlines()[0], run)
