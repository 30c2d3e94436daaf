"""Exports in parts: consecutive runs of episodes that are written independently, by any worker, and joined at the end.

A part is a folder that either exists complete or not at all, so an interrupted export continues with the parts it lacks.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

from pipelines.exporters.base import ExportJob, ExportReport

MOST_PARTS = 999  # LeRobot reads its chunks in the order of their names, `chunk-000` to `chunk-999`
MB = 1_000_000
PARTS = ".parts"  # inside the job's folder, where the job names no staging folder


@dataclass(frozen=True, slots=True)
class Part:
    """Episodes `[first, stop)` of a job, in export order; `number` counts parts from 0."""

    number: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """The name of its folder in the staging folder."""
        return f"part-{self.number:05d}"


@runtime_checkable
class PartedExporter(Protocol):
    """An exporter whose datasets are written in parts. Both functions must give the same files for the same job and parts."""

    def write_part(self, job: ExportJob, part: Part, folder: Path, on_episode: Callable[[], None]) -> None:
        """Write the episodes of `part` into the empty `folder`, and whatever `join` needs to know of them."""
        ...

    def join(self, job: ExportJob, parts: Sequence[tuple[Part, Path]]) -> ExportReport:
        """Make one dataset of the finished part folders in `job.folder`; the part folders stay as they are."""
        ...


def is_parted(exporter: Any) -> TypeGuard[PartedExporter]:
    """Tell whether an exporter writes in parts."""
    return isinstance(exporter, PartedExporter)


def cut(job: ExportJob) -> tuple[Part, ...]:
    """Cut a job into parts of about `part_mb` of source bytes, at most `MOST_PARTS`; a job without episodes is one part."""
    sizes = [int(e.row.get("bytes") or 0) for e in job.episodes]
    limit = max(job.options.part_mb * MB, sum(sizes) / MOST_PARTS * 2)
    starts, size = [0], 0
    for index, more in enumerate(sizes):
        if size and size + more > limit:
            starts.append(index)
            size = 0
        size += more
    return tuple(Part(n, a, b) for n, (a, b) in enumerate(zip(starts, [*starts[1:], len(sizes)], strict=True)))


def export_in_parts(exporter: PartedExporter, job: ExportJob, on_episode: Callable[[int], None] | None = None) -> ExportReport:
    """Write every part that is not there yet, join them, and return the report."""
    staging, done = job.staging or job.folder / PARTS, 0

    def tell() -> None:
        nonlocal done
        done += 1
        if on_episode:
            on_episode(done)

    parts = [(part, finish_part(exporter, job, part, staging, tell)) for part in cut(job)]
    report = exporter.join(job, parts)
    if job.staging is None:
        shutil.rmtree(staging)
    return report


def finish_part(exporter: PartedExporter, job: ExportJob, part: Part, staging: Path, on_episode: Callable[[], None]) -> Path:
    """Return the finished folder of a part, writing it first if it is not there."""
    target = staging / part.name
    if target.is_dir():
        return target
    temporary = staging / f".{part.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir(parents=True)
    try:
        exporter.write_part(job, part, temporary, on_episode)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise  # not another worker's finished copy of the same part
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def link_files(source: Path, target: Path, *, but: Sequence[str] = ()) -> None:
    """Give every file below `source` the same place below `target`, without copying where the file system can link."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source).as_posix()
        if name not in but:
            place_file(path, target / name)


def dataset_size(root: Path) -> tuple[int, int]:
    """Return how many files a finished dataset has and their bytes; parts that lie in its folder are not its own."""
    files = [p for p in root.rglob("*") if p.is_file() and PARTS not in p.relative_to(root).parts]
    return len(files), sum(p.stat().st_size for p in files)


def place_file(path: Path, target: Path) -> None:
    """Link `path` as `target`, or copy it where it cannot be linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
