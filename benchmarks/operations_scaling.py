"""What a second worker process is worth to ingest and to an annotator that looks at pictures; starting the processes included.

The same units with one worker process and with two, in turns, each into a lake of its own. On two cores two is the most there can be; the
ratio also carries whatever else the machine does.

    python -m benchmarks.operations_scaling [--quick] [--json]
"""

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Sample, goal, main, measure, take_turns
from benchmarks.ingest import make_set
from catalog.lake import Lake
from pipelines.annotate import AnnotateStage
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.sources.lerobot import LeRobotSource
from pipelines.unit import run_stage

GOAL, ANNOTATOR = 1.8, "picture_quality"
SIDE, SHARD_BYTES = 320, 6 << 20


class Turns:
    """Ingests one recording again and again, and annotates what the first ingest left."""

    def __init__(self, folder: Path, recording: Path) -> None:
        self._folder, self._recording, self._numbers = folder, recording, itertools.count()
        self._held = folder / "held"
        self._ingest(Lake.at(self._held), 0)

    def ingest(self, workers: int) -> Sample:
        """Ingest into an empty lake; the amount is units."""
        root = self._folder / f"lake-{next(self._numbers)}"
        sample = measure(lambda: self._ingest(Lake.at(root), workers))
        shutil.rmtree(root)
        return sample

    def annotate(self, workers: int) -> Sample:
        """Annotate a copy of the lake, made before the clock starts; the amount is units."""
        root = self._folder / f"lake-{next(self._numbers)}"
        shutil.copytree(self._held, root)
        stage = AnnotateStage.named(Lake.at(root), ANNOTATOR)
        sample = measure(lambda: _done(run_stage(stage, execution=Execution(workers=workers))))
        shutil.rmtree(root)
        return sample

    def _ingest(self, lake: Lake, workers: int) -> float:
        source = LeRobotSource(str(self._recording), SourceOptions("film", shard_bytes=SHARD_BYTES))
        return _done(run_stage(IngestStage(lake, source, check="all"), execution=Execution(workers=workers)))


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare one worker with two."""
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name:
        folder = Path(name)
        turns = Turns(folder, make_set(folder / "film", 0, SIDE, gop=8, megabytes=60 if quick else 240))
        timed = take_turns(
            {
                f"{what}, {workers} worker{'s' if workers > 1 else ''}": lambda act=act, workers=workers: act(workers)
                for what, act in (("ingest", turns.ingest), (f"annotate ({ANNOTATOR})", turns.annotate))
                for workers in (1, 2)
            },
            rounds=3 if quick else 5,
        )
    rows = [t.row("units") for t in timed.values()]
    goals = list[dict[str, Any]]()
    for what in ("ingest", f"annotate ({ANNOTATOR})"):
        ratio = timed[f"{what}, 1 worker"].wall_s / timed[f"{what}, 2 workers"].wall_s
        goals.append(goal(f"{what}: two workers over one", f">= {GOAL}", ratio, ratio >= GOAL))
    return rows, goals


def _done(report: Any) -> float:
    if report.rejects:
        raise RuntimeError(f"the benchmark's own recording was rejected: {report.rejects[0].message}")
    return float(report.count("done"))


if __name__ == "__main__":
    main("operations_scaling", (__doc__ or "").splitlines()[0], run)
