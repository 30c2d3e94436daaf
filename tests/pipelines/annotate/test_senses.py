"""What else annotators may ask for: irregular signals on their own clock, depth, trimmed episodes, cameras slower than the steps."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.clips import Look, Needs
from annotators.spans import span_table
from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage, EvaluateStage
from pipelines.annotate.engine import annotate_shard
from pipelines.annotate.pictures import read_clip, shown
from pipelines.annotations import read_annotations
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.shards.encode import encode_h264, encode_png
from pipelines.shards.reader import Shard, open_shard
from pipelines.unit import run_stage
from schemas.contract import Camera, Contract, Stream
from schemas.shards import STREAMS
from tests.support.toys import SECOND, ToySource
from tests.support.video import barcode, read_barcode
from tests.support.watchers import Numbers

HERE = Execution(workers=0)
STEP_HZ, FILM_HZ, GAZE_HZ = 10, 5, 40


@dataclass(frozen=True)
class Glasses(ToySource):
    """Two episodes with gaze at 40 Hz, steps at 10 Hz from 0.2 s on, a film at 5 Hz that begins before and ends after, and depth."""

    lengths: tuple[int, ...] = (12, 8)

    def contract(self) -> Contract:
        cameras = (
            Camera("scene", width=64, height=64, intrinsics=(80.0, 0, 31.5, 0, 80.0, 31.5, 0, 0, 1)),
            Camera("depth", role="depth", width=64, height=48, depth_unit_m=0.001),
        )
        return Contract(
            "toy", "human", "none", float(STEP_HZ), cameras=cameras, streams=(Stream("gaze", ("x", "y"), "px"), Stream("imu"))
        )

    def episode(self, index: int) -> EpisodeDraft:
        steps = self.lengths[index]
        t_ns = SECOND // 5 + np.arange(steps, dtype=np.int64) * SECOND // STEP_HZ
        film_ns = np.arange(steps // 2 + 4, dtype=np.int64) * SECOND // FILM_HZ
        film = encode_h264("scene", np.stack([barcode(100 * index + n) for n in range(len(film_ns))]), film_ns, FILM_HZ, gop=4)
        depth = (
            np.arange(steps, dtype=np.uint16)[:, None, None] * 1000
            + np.arange(64, dtype=np.uint16)
            + np.zeros((steps, 48, 64), np.uint16)
        )
        sees = np.searchsorted(film_ns, t_ns, side="right") - 1
        frames = {"scene": sees.astype(np.int32), "depth": np.arange(steps, dtype=np.int32)}
        gaze = [
            {"episode_id": "", "stream": name, "t_ns": n * SECOND // GAZE_HZ, "values": [float(n), float(index)]}
            for name in ("gaze", "imu")
            for n in range(4 * steps)
        ]
        streams = pa.Table.from_pylist(gaze, schema=STREAMS).drop_columns(["episode_id"])
        table = build_steps(self.contract(), t_ns, {}, frames=frames)
        return EpisodeDraft(str(index), table, (film, encode_png("depth", depth, t_ns)), streams, uri=self.uri)


@dataclass(frozen=True)
class Looks(Numbers):
    """Says how far apart the number in view and the latest gaze sample are: wrong if either belongs to another episode or instant."""

    camera: str = "scene"
    provides: ClassVar[pa.Schema] = pa.schema([pa.field("number", pa.float32()), pa.field("gaze", pa.float32())])

    def needs(self, contract: Contract) -> Needs:
        return replace(Numbers.needs(self, contract), streams=("gaze",))

    def run(self, batch: Batch) -> pa.Table:
        number, gaze = list[float](), list[float]()
        for place, episode in enumerate(batch.episodes):
            clip, samples = batch.clips[self.camera][place], batch.stream(episode, "gaze")
            times, x = samples["t_ns"].to_numpy(), np.array([v[0] for v in samples["values"].to_pylist()])
            own = batch.t_ns[batch.starts[place] : batch.starts[place + 1]]
            number += [read_barcode(clip.pictures[n]) for n in clip.seen]
            gaze += x[np.searchsorted(times, own, side="right") - 1].tolist()
        rows = np.arange(batch.steps.num_rows)
        own = {"number": pa.array(number, pa.float32()), "gaze": pa.array(gaze, pa.float32())}
        return span_table(self, batch, rows, rows + 1, [None] * len(rows), own)  # type: ignore[arg-type]


@pytest.fixture
def glasses(lake: Lake) -> Lake:
    run_stage(IngestStage(lake, Glasses()), execution=HERE)
    return lake


@pytest.fixture
def shard(glasses: Lake) -> Shard:
    return open_shard(glasses, "toy", select_episodes(Catalog(glasses))["shard"][0])


def test_signals_and_pictures_meet_on_the_episodes_clock(glasses: Lake) -> None:
    run_stage(AnnotateStage(glasses, Looks()), execution=HERE)  # type: ignore[arg-type]
    rows = read_annotations(Catalog(glasses), "numbers", select_episodes(Catalog(glasses)))
    for index, steps in enumerate((12, 8)):
        mine = rows.filter(rows["number"] // 100 == index)
        seconds = 0.2 + np.arange(steps) / STEP_HZ
        assert mine["gaze"].to_list() == np.minimum(np.floor(seconds * GAZE_HZ + 1e-6), 4 * steps - 1).tolist()
        assert (mine["number"] % 100).to_list() == np.floor(seconds * FILM_HZ + 1e-6).tolist()
    (unit,) = EvaluateStage(glasses, Looks()).plan()  # type: ignore[arg-type]
    batch = EvaluateStage(glasses, Looks()).batch(unit)  # type: ignore[arg-type]
    assert [batch.stream(e, "gaze").num_rows for e in batch.episodes] == [48, 32]
    assert batch.stream(batch.episodes[0], "imu").num_rows == 0


def test_pictures_outside_the_steps_are_not_shown(shard: Shard) -> None:
    found = shown(shard, shard.episode_ids[0], Look("scene"))
    assert found.frames.tolist() == list(range(1, 7))  # steps from 0.2 s on see frames 1 to 6; 7 to 9 are shown later
    assert found.step.tolist() == [1, 3, 5, 7, 9, 11]
    assert found.seen.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_depth_stays_whole_numbers_and_calibration_follows_the_size(shard: Shard) -> None:
    episode = shard.episode_ids[0]
    look = Look("depth", (24, 32))
    clip = read_clip(shard, episode, look, shown(shard, episode, look))
    assert clip.pictures.dtype == np.uint16
    assert clip.pictures.shape == (12, 24, 32)
    assert set(np.unique(clip.pictures[3])) <= set(range(3000, 3064))
    half = Look("scene", (32, 32))
    small = read_clip(shard, episode, half, shown(shard, episode, half))
    matrix = small.intrinsics(shard.contract.cameras[0])
    assert matrix is not None
    assert matrix[0, 0] == 40.0
    assert matrix[0, 2] == pytest.approx(15.5)


def test_groups_give_each_episode_its_own_signals(shard: Shard) -> None:
    whole, alone = (annotate_shard([Looks()], shard, hold_bytes=b)[0].rows for b in (1 << 30, 1))  # type: ignore[list-item]
    assert whole is not None
    assert whole.equals(alone)
