"""Ingesting a LeRobot v3.0 set: against copying and hashing the same files, and against LeRobot's own writer creating the same rows.

`cold` is the whole stage into an empty lake: seals, demuxing, shard files, decode check of each track's ends, fsync and catalog commit.
`again` is the same command on a lake that already holds everything. Copying reads, hashes (BLAKE3), writes and fsyncs each file.

    python benchmarks/ingest.py [--quick] [--json]
"""

import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blake3 import blake3

from benchmarks.harness import Sample, goal, main, measure, take_turns
from benchmarks.recording import LeRobotPeer, export_job, ingest_film

SIDE, LENGTH = 256, 200
CHUNK = 8 << 20
MB = 1 << 20


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure bytes on a set large enough that fixed costs fade, and rows against the peer."""
    episodes, peer_rows, megabytes = (20, 25, 120) if quick else (50, 100, 600)
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name, LeRobotPeer(SIDE, peer_rows) as peer:
        folder = Path(name)
        small = make_set(folder / "small", episodes, SIDE, gop=2)
        large = make_set(folder / "large", 0, 640, gop=2, megabytes=megabytes)
        ingest = Ingest(folder)
        ingest.cold(small)  # pays for imports
        peer.ready()
        bytes_of = take_turns(
            {
                "ingest, cold": lambda: ingest.cold(large),
                "copy + BLAKE3 + fsync": lambda: copy_and_hash(large, folder / "copy"),
                "ingest, again": ingest.again,
            }
        )
        rows_of = take_turns(
            {"cotrain ingest": lambda: _rows(ingest.cold(small), ingest.rows), "LeRobot add_frame/save_episode": peer.turn}
        )
    results = [t.row("mb") for t in bytes_of.values()]
    results += [t.row("rows") for t in rows_of.values()]
    cold, copy = bytes_of["ingest, cold"], bytes_of["copy + BLAKE3 + fsync"]
    ours, theirs = rows_of["cotrain ingest"], rows_of["LeRobot add_frame/save_episode"]
    slower, ratio = copy.per_s / cold.per_s, ours.per_cpu_s / theirs.per_cpu_s
    share = bytes_of["ingest, again"].wall_s / cold.wall_s
    return results, [
        goal("ingest_seconds_over_copy_and_hash", "< 1.5", slower, slower < 1.5),
        goal("ingest_rows_per_cpu_s_over_lerobot_writer", "> 100", ratio, ratio > 100),
        goal("ingest_again_share_of_cold", "< 0.2", share, share < 0.2),
    ]


def make_set(folder: Path, episodes: int, side: int, gop: int, megabytes: int = 0) -> Path:
    """Write a LeRobot v3.0 set of `episodes`, or of as many as fill `megabytes`."""
    from catalog.lake import Lake
    from pipelines.exporters.base import ExportOptions
    from pipelines.exporters.lerobot import LeRobotExporter

    if megabytes:
        probe = make_set(folder / "probe", 1, side, gop)
        episodes = max(1, round(megabytes * MB / size_of(probe)))
        shutil.rmtree(folder / "probe")
    lake, out = Lake.at(folder / "lake"), folder / "set"
    ingest_film(lake, episodes, LENGTH, side, gop)
    out.mkdir(parents=True)
    LeRobotExporter().export(export_job(lake, out, ExportOptions(image_frames=0, video_mb=50)))
    shutil.rmtree(folder / "lake")
    return out


class Ingest:
    """Ingests into fresh lakes, one at a time on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._last: tuple[Any, Path] | None = None
        self.rows = 0

    def cold(self, root: Path) -> Sample:
        """Ingest `root` into an empty lake; the amount is its megabytes."""
        from catalog.lake import Lake

        if self._last is not None:
            shutil.rmtree(self._last[0].root)
        lake = Lake.at(self._folder / f"lake-{next(self._numbers)}")
        self._last = (lake, root)
        return measure(lambda: self._run(lake, root))

    def again(self) -> Sample:
        """Repeat the last ingest, which has nothing left to do."""
        assert self._last is not None
        lake, root = self._last
        return measure(lambda: self._run(lake, root))

    def _run(self, lake: Any, root: Path) -> float:
        from pipelines.executors import Execution
        from pipelines.ingest import IngestStage
        from pipelines.sources.base import SourceOptions
        from pipelines.sources.lerobot import LeRobotSource
        from pipelines.unit import run_stage

        report = run_stage(IngestStage(lake, LeRobotSource(str(root), SourceOptions("film"))), execution=Execution(workers=0))
        if report.rejects:
            raise RuntimeError(f"the benchmark's own set was rejected: {report.rejects[0].message}")
        self.rows = report.total("rows") or self.rows
        return size_of(root) / MB


def copy_and_hash(root: Path, target: Path) -> Sample:
    """Copy every file of `root`, hashing what passes by; the least that taking in a set with integrity can cost."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()

    def work() -> float:
        for number, path in enumerate(p for p in sorted(root.rglob("*")) if p.is_file()):
            hasher = blake3(max_threads=blake3.AUTO)
            with path.open("rb") as source, (target / str(number)).open("wb") as out:
                while chunk := source.read(CHUNK):
                    hasher.update(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
        return size_of(root) / MB

    return measure(work)


def size_of(root: Path) -> int:
    """Return the bytes of every file below `root`."""
    return sum(p.stat().st_size for p in root.rglob("*") if p.is_file())


def _rows(sample: Sample, rows: int) -> Sample:
    return Sample(rows, sample.wall_s, sample.cpu_s)


if __name__ == "__main__":
    main("ingest", __doc__ or "", run)
