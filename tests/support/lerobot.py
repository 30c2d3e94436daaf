"""Small LeRobot datasets to break and to read: exported toys, and toys whose videos have B-frames or an irregular clock."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.exporters.base import ExportEpisode, ExportJob, ExportOptions, ExportReport
from pipelines.exporters.lerobot import LeRobotExporter
from pipelines.ingest import IngestStage
from pipelines.shards.demux import demux
from pipelines.shards.draft import EpisodeDraft, TrackDraft
from pipelines.sources.base import SourceOptions
from pipelines.sources.lerobot import LeRobotSource
from pipelines.unit import StageReport, run_stage
from schemas.annotation import LanguageRow
from tests.support.toys import FPS, ToySource
from tests.support.video import write_video

HERE = Execution(workers=0)
TINY = ExportOptions(video_mb=0.001, data_mb=0.0005, image_frames=4)  # every episode in its own files


@dataclass(frozen=True)
class ReorderedSource(ToySource):
    """The toy source with videos of any codec, by default H.264 with B-frames; `cut` drops frames before the episode starts."""

    codec: str = "libx264"
    cut: int = 0
    version: ClassVar[str] = "2"

    def episode(self, index: int) -> EpisodeDraft:
        draft = super().episode(index)
        count, first = self.lengths[index], sum(self.lengths[:index])
        tracks = tuple(self.track(c, [first + shift - self.cut + n for n in range(count + self.cut)], count) for c, shift in
                       (("front", 100), ("wrist", 1100)))  # fmt: skip
        return replace(draft, tracks=tracks)

    def track(self, camera: str, numbers: list[int], count: int) -> TrackDraft:
        options = {"preset": "12", "g": "2"} if self.codec == "libsvtav1" else {"g": "8"}
        with tempfile.TemporaryDirectory() as folder:
            path = write_video(Path(folder) / "v.mp4", numbers, FPS, self.codec, **options)
            return demux(str(path)).span(camera, self.cut / FPS, (self.cut + count) / FPS)


def job_of(
    lake: Lake,
    folder: Path,
    options: ExportOptions = TINY,
    language: Mapping[str, tuple[LanguageRow, ...]] | None = None,
    name: str = "toy",
) -> ExportJob:
    rows = select_episodes(Catalog(lake), name).to_dicts()
    rows.sort(key=lambda r: int(r["key"]))
    episodes = tuple(ExportEpisode(r["episode_id"], r["dataset"], r["shard"], r) for r in rows)
    folder.mkdir(parents=True, exist_ok=True)
    return ExportJob(
        lake, name, episodes[0].open(lake).contract, episodes, folder, options, language or {}, {"asked": "by a test"}
    )


def ingest(lake: Lake, root: Path, name: str = "back", **options: Any) -> StageReport:
    return run_stage(
        IngestStage(lake, LeRobotSource(str(root), SourceOptions(name, **options))), execution=HERE, stop_rejects=1.0
    )


def export_toy(
    root: Path, folder: Path, source: ToySource | None = None, options: ExportOptions = TINY
) -> tuple[ExportJob, ExportReport]:
    """Ingest a toy into a fresh lake below `root` and export it to `folder`."""
    lake = Lake.at(root)
    run_stage(IngestStage(lake, source or ToySource()), execution=HERE)
    job = job_of(lake, folder, options)
    return job, LeRobotExporter().export(job)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]


def edit_parquet(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.ParquetFile(path).read()), path)


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def set_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(np.asarray(values), table.schema.field(at).type))
