"""Where each episode's bytes are: the one form every LeRobot version's metadata is turned into. Opens no data file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.sources.lerobot.info import Info


@dataclass(frozen=True, slots=True)
class VideoSpan:
    """The part `[start_s, end_s)` of a video file (path relative to the root) that shows an episode to one camera."""

    camera: str
    file: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One episode: rows `[first, stop)` of the dataset, `length` of them by its own account, in parquet file `data`."""

    index: int
    length: int
    first: int
    stop: int
    data: str
    videos: tuple[VideoSpan, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Every episode the metadata describes, how many more it promises, and what is odd about it but stops no reader."""

    rows: tuple[EpisodeRow, ...]
    missing: int
    notes: tuple[str, ...]


class Layout(Protocol):
    """One version of the format on disk. Each method reads files anew."""

    @property
    def info(self) -> Info:
        """The checked declaration."""
        ...

    def listing(self) -> Listing:
        """List every episode in order."""
        ...

    def tasks(self) -> dict[int, str]:
        """Return each task's text by its index."""
        ...

    def shared_files(self) -> list[Path]:
        """List the metadata files every episode depends on."""
        ...
