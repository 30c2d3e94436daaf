"""A source with everything an RLDS export has to survive, and the jobs that tests make of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import simplejpeg

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.export import place
from pipelines.exporters.base import ExportEpisode, Exporter, ExportJob, ExportOptions
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, TrackDraft, build_steps
from pipelines.shards.encode import encode_h264, encode_png
from pipelines.sources.base import Group, Source, SourceOptions
from pipelines.unit import run_stage
from schemas.annotation import LanguageRow
from schemas.contract import Camera, Contract, Feature
from schemas.shards import CodecHeader
from tests.support.toys import LENGTHS as TOY_LENGTHS
from tests.support.toys import ToySource
from tests.support.video import barcode

SECOND = 1_000_000_000
LENGTHS = (11, 7, 9)


@dataclass(frozen=True)
class RichSource:
    """Three episodes: JPEG, H.264 with gaps and repeats, PNG masks, a camera nobody has; every dtype there is."""

    uri: str = "rich://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("rich-v1.0"))
    name: ClassVar[str] = "rich"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("rich://")

    def contract(self) -> Contract:
        return Contract(
            self.options.dataset, "sim", "rich_arm", 10.0,
            features=(
                Feature("observation.state", "float64", (3,), ("x", "y", "gripper"), role="state", unit="m"),
                Feature("observation.half", "float16", (2,)),
                Feature("observation.grid", "uint8", (10, 10)),
                Feature("observation.small", "int16", (2, 2)),
                Feature("observation.big.number", "uint64", (1,)),
                Feature("observation.note", "string", ()),
                Feature("action", "float32", (2,), ("x", "gripper"), role="action"),
                Feature("next.success", "bool", (1,)),
                Feature("poses", "float32", (2, 7), role="privileged", privileged=True),
            ),
            cameras=(
                Camera("front", role="exterior", colour_order="bgr"), Camera("wrist", role="wrist"), Camera("ghost"),
                Camera("mask", role="segmentation", privileged=True),
            ),
            last_action_valid=False,
            licence="CC-BY-4.0",
        )  # fmt: skip

    def groups(self) -> list[Group]:
        return [Group("all", len(LENGTHS), 1000, list(LENGTHS), None)]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for index, count in enumerate(LENGTHS):
            yield self.episode(index, count)

    def episode(self, index: int, count: int) -> EpisodeDraft:
        rng, times = np.random.default_rng(index), np.arange(count, dtype=np.int64) * SECOND // 10
        pictures = np.stack([barcode(100 * index + n)[:, :48] for n in range(count)])
        jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(p), 80, "RGB", "444") for p in pictures]
        header = CodecHeader("mjpeg", width=48, height=64, pix_fmt="yuvj444p")
        order = np.arange(count, dtype=np.int32)
        front = TrackDraft("front", header, order, times, np.ones(count, bool), jpegs)
        wrist = encode_h264("wrist", np.stack([barcode(100 * index + n) for n in range(count)]), times, 10, gop=4)
        mask = encode_png("mask", rng.integers(0, 5, (count, 6, 8)).astype(np.uint16), times)
        seen = np.minimum(order, count - 3)  # the last picture is seen three times
        seen[2] = -1  # and one step sees none
        columns: dict[str, Any] = {
            "observation.state": rng.normal(size=(count, 3)) + 1.7e9, "observation.half": rng.normal(size=(count, 2)),
            "observation.grid": rng.integers(0, 255, (count, 10, 10)), "observation.small": rng.integers(-300, 300, (count, 2, 2)),
            "observation.big.number": np.full(count, 2**64 - 1 - index, np.uint64), "observation.note": [f"nöte {n}" for n in range(count)],
            "action": rng.normal(size=(count, 2)), "next.success": rng.random(count) > 0.5, "poses": rng.normal(size=(count, 2, 7)),
        }  # fmt: skip
        steps = build_steps(
            self.contract(), times, columns, language=[None, *["öffne die Tür"] * (count - 1)],
            frames={"front": order, "wrist": seen, "mask": order}, reward=rng.random(count), terminal=index == 1,
        )  # fmt: skip
        success = (None, False, True)[index]
        return EpisodeDraft(str(index), steps, (front, wrist, mask), success=success, uri=f"rich://{index}", notes=("a note",))


def ingested(lake: Lake, source: Source, **options: Any) -> tuple[ExportEpisode, ...]:
    """Ingest `source` in this process and return every episode of the lake."""
    run_stage(IngestStage(lake, source), execution=Execution(workers=0))
    return place(select_episodes(Catalog(lake)), ExportOptions(**options), always_val=True)


def job_of(lake: Lake, source: Source, folder: Path, **options: Any) -> ExportJob:
    """Ingest `source` and return the job that exports it to `folder`, with motions for its first episode."""
    episodes = ingested(lake, source, **options)
    motions = (LanguageRow("motion", "move left", SECOND // 10), LanguageRow("motion", "move right", SECOND * 3 // 10))
    folder.mkdir(parents=True)
    contract = episodes[0].open(lake).contract
    language = {episodes[0].episode_id: motions}
    return ExportJob(lake, contract.dataset, contract, episodes, folder, ExportOptions(**options), language, {"from": "a test"})


def exported_toys(exporter: Exporter, root: Path, **options: Any) -> ExportJob:
    """Export the toy dataset below `root`, check what is reported of it, and return the job."""
    job = job_of(Lake.at(root / "lake"), ToySource(), root / "out" / "toy", **options)
    done: list[int] = []
    report = exporter.export(job, done.append)
    assert done == [1, 2, 3, 4]
    assert (report.episodes, report.rows, report.copied, report.transcoded) == (4, sum(TOY_LENGTHS), 0, 2 * sum(TOY_LENGTHS))
    files = [p for p in job.folder.rglob("*") if p.is_file()]
    assert (report.files, report.bytes) == (len(files), sum(p.stat().st_size for p in files))
    return job
