"""Compares a lake's files with what its catalog says of them: shards and side tables, by length and hash; all, or a fair sample."""

from collections.abc import Callable
from dataclasses import dataclass

from catalog.lake import Lake
from pipelines.publish import is_intact
from pipelines.upkeep.needed import needed_files
from schemas.ids import digest


@dataclass(frozen=True, slots=True)
class LakeReport:
    """What the check found. `damaged` and `missing` are paths relative to the lake's root."""

    files: int
    bytes: int
    damaged: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is there and unchanged."""
        return not self.damaged and not self.missing


def verify_lake(
    lake: Lake, on_file: Callable[[int, int], None] | None = None, *, sample: float = 1.0, seed: int = 0
) -> LakeReport:
    """Hash every file that a current row or a live mixture needs; `on_file` is told `(done, total)`.

    Files of replaced shards are not looked at: nothing reads them, and upkeep may have removed them.

    Args:
        lake: which.
        on_file: called after each file.
        sample: look at this share of the files only, the same ones for the same `seed`: each file by its own hash, so that samples of
            a growing lake overlap. A damaged share p of n files is missed with probability (1 - p) ** (sample * n).
        seed: another seed, other files: a sample a night covers a lake in time.
    """
    files = [f for f in needed_files(lake) if _is_drawn(f.path, sample, seed)]
    damaged, missing = list[str](), list[str]()
    for done, file in enumerate(files, start=1):
        if not lake.fs.exists(lake.path(file.path)):
            missing.append(file.path)
        elif not is_intact(lake, file):
            damaged.append(file.path)
        if on_file:
            on_file(done, len(files))
    return LakeReport(len(files), sum(f.bytes for f in files), tuple(damaged), tuple(missing))


def _is_drawn(path: str, sample: float, seed: int) -> bool:
    return sample >= 1 or int(digest([seed, path])[:13], 16) < sample * 2**52
