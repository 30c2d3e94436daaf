"""What an exporter is given and what it returns. Choosing episodes, atomicity and the catalog are `pipelines.export`'s business."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from catalog.lake import Lake
from pipelines.exporters.dense import Dense, open_annotated
from pipelines.exporters.splits import TRAIN, SplitMode
from pipelines.shards.reader import Shard, open_shard
from schemas.annotation import LanguageRow
from schemas.contract import Contract


@dataclass(frozen=True, slots=True)
class ExportEpisode:
    """One episode to export, in export order; `row` is its row of the catalog's `episodes` table.

    Episodes of one split follow each other: train first, then val. `dense` names the annotations that become columns of its
    steps; with `grid_fps` its steps are laid on a grid of that rate.
    """

    episode_id: str
    dataset: str
    shard: str
    row: Mapping[str, Any]
    split: str = TRAIN
    dense: tuple[Dense, ...] = ()
    grid_fps: int | None = None

    def open(self, lake: Lake) -> Shard:
        """Return the mapped shard that holds it, with the annotations and on the grid asked for."""
        shard = open_shard(lake, self.dataset, self.shard)
        if self.dense:
            shard = open_annotated(lake, self.dataset, self.shard, self.dense)
        if self.grid_fps:
            from pipelines.exporters.grid import on_grid

            shard = on_grid(shard, self.grid_fps)
        return shard


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Choices every exporter understands; one that does not apply is ignored.

    Attributes:
        fps: frames per second of the integer grid; None takes the contract's control rate.
        resample: lay every episode on that grid by time (the last step at or before each tick); else one row per step.
        video_mb: roll a LeRobot video file at this size.
        data_mb: roll a LeRobot parquet file at this size.
        rlds_mb: close a TFRecord or tar shard at this size.
        part_mb: one worker's share of a large export, in megabytes of source packets.
        jpeg_quality: quality of RLDS and WebDataset images that are not JPEG already.
        image_frames: frames per camera and episode that image statistics are taken from.
        split: who decides which episodes are held out, see `pipelines.exporters.splits`.
        val_share: share of the split groups that go to `val` where a hash decides.
        features_of: annotators whose numbers become features of every step.
        tables_of: annotators whose side tables go along, as `annotations/<name>.parquet`.
        privileged: also export privileged features and cameras (simulator state, segmentation).
        version: dataset version written into the export.
    """

    fps: int | None = None
    resample: bool = False
    video_mb: float = 200
    data_mb: float = 100
    rlds_mb: float = 256
    part_mb: float = 2048
    jpeg_quality: int = 95
    image_frames: int = 8
    split: SplitMode = "auto"
    val_share: float = 0.1
    features_of: tuple[str, ...] = ()
    tables_of: tuple[str, ...] = ()
    privileged: bool = False
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One dataset to write: episodes that share one contract.

    `folder` is a local, empty, temporary folder: whatever the exporter leaves in it becomes visible at once when it returns.
    `staging`, where given, is a folder on the same file system that outlives a killed export; finished parts stay there.
    `language` holds, per episode id, rows sorted by start; an empty mapping means the export has no language columns.
    """

    lake: Lake
    name: str
    contract: Contract
    episodes: tuple[ExportEpisode, ...]
    folder: Path
    options: ExportOptions = field(default_factory=ExportOptions)
    language: Mapping[str, tuple[LanguageRow, ...]] = field(default_factory=dict[str, tuple[LanguageRow, ...]])
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    staging: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. `copied` and `transcoded` count pictures by how their bytes got there."""

    episodes: int
    rows: int
    files: int
    bytes: int
    copied: int = 0
    transcoded: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What re-reading an export with the format's own reader found. Zero differences is the only good number."""

    format: str
    reader: str
    episodes: int
    steps_compared: int
    frames_compared: int
    differences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


class Exporter(Protocol):
    """One format. `version` changes whenever the bytes written for the same job change.

    `always_val`: whether loaders of this format expect a `val` split, so that one is made where neither mixture nor source has one.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    always_val: ClassVar[bool]

    def export(self, job: ExportJob, on_episode: Callable[[int], None] | None = None) -> ExportReport:
        """Write `job` into `job.folder`; `on_episode` is told the number of episodes done."""
        ...

    def commit_files(self, job: ExportJob) -> tuple[str, ...]:
        """Name the files, below the folder, without which no reader sees a dataset; they are uploaded last, in this order."""
        ...

    def tag(self, job: ExportJob) -> str:
        """Name the tag under which readers of this format look a hub repository up."""
        ...

    def verify(self, folder: Path, job: ExportJob, *, every: int = 10) -> VerifyReport:
        """Re-read `folder` with the format's own reader: every step's values, every `every`-th frame, against the lake.

        Raises:
            DependencyError: the format's own reader is not installed.
        """
        ...
