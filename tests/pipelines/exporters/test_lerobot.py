"""LeRobot export without LeRobot: files, bytes and numbers. What LeRobot itself reads from them is in test_lerobot_reader."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.lake import Lake
from pipelines.exporters.base import ExportOptions
from pipelines.exporters.lerobot import LeRobotExporter, pictures, stats
from pipelines.exporters.lerobot.plan import make_plan
from pipelines.exporters.lerobot.stats import picture_counts, picture_stats, value_stats
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.shards.encode import encode_h264, encode_png
from pipelines.sources.base import SourceOptions
from pipelines.sources.lerobot import LeRobotSource
from pipelines.unit import run_stage
from schemas.annotation import LanguageRow
from schemas.contract import Camera, Feature, Stream
from schemas.errors import ContractError, UsageError
from tests.support.lerobot import HERE, TINY, ReorderedSource, export_toy, job_of, packets
from tests.support.toys import FPS, LENGTHS, SECOND, ToySource
from tests.support.video import barcode, read_barcode

ONE = ExportOptions(image_frames=4)


def ingest_and_export(lake: Lake, source: Any, folder: Path, options: ExportOptions = ONE, **language: Any) -> Any:
    report = run_stage(IngestStage(lake, source), execution=HERE)
    assert not report.rejects
    job = job_of(lake, folder, options, name=source.options.dataset, **language)
    return job, LeRobotExporter().export(job)


def episodes(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "meta/episodes").glob("*/*.parquet"))
    return [r for f in files for r in pq.ParquetFile(f).read().to_pylist()]


def shown(folder: Path, key: str, row: dict[str, Any], fps: int) -> list[int]:
    """Read the barcodes of one episode through nothing but the metadata and a plain decoder."""
    file = folder / pictures.video_path(key, row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"])
    start, end = (round(row[f"videos/{key}/{n}_timestamp"] * fps) for n in ("from", "to"))
    with av.open(str(file)) as container:
        found = {round(f.time * fps): read_barcode(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)}
    return [found[n] for n in range(start, end)]


def test_real_robot_set_comes_out_with_every_packet_and_every_number_it_went_in_with(
    lake: Lake, data: Path, tmp_path: Path
) -> None:
    root, out = data / "lerobot/g1_v30_3ep", tmp_path / "out"
    source = LeRobotSource(str(root), SourceOptions("g1"))
    _, report = ingest_and_export(lake, source, out)
    assert (report.episodes, report.rows, report.copied, report.transcoded) == (3, 748, 748, 0)
    video = "videos/observation.images.cam_high/chunk-000/file-000.mp4"
    assert packets(out / video) == packets(root / video)
    ours, theirs = (pq.ParquetFile(r / "data/chunk-000/file-000.parquet").read() for r in (out, root))
    assert set(ours.column_names) == set(theirs.column_names)
    for name in theirs.column_names:
        a, b = (np.array(t.column(name).to_pylist(), np.float64) for t in (ours, theirs))
        assert a.tobytes() == b.tobytes(), name
    for a, b in zip(episodes(out), episodes(root), strict=True):
        for name in (k for k in b if not k.startswith("stats/")):
            assert a[name] == (pytest.approx(b[name]) if name.endswith("_timestamp") else b[name]), name
    mine, other = (json.loads((r / "meta/info.json").read_text()) for r in (out, root))
    assert mine["features"]["action"]["names"] == other["features"]["action"]["names"][0]
    assert {k: v["shape"] for k, v in mine["features"].items()} == {k: v["shape"] for k, v in other["features"].items()}
    assert {k: mine[k] for k in ("fps", "total_frames", "total_tasks", "robot_type", "codebase_version", "video_path")} == {
        k: other[k] for k in ("fps", "total_frames", "total_tasks", "robot_type", "codebase_version", "video_path")
    }


@pytest.mark.parametrize(
    "source", [ToySource(), ReorderedSource(), ReorderedSource(cut=3)], ids=["plain", "B-frames", "cut mid-GOP"]
)
@pytest.mark.parametrize("options", [ONE, TINY], ids=["one file", "many files"])
def test_every_step_shows_its_own_frame(lake: Lake, tmp_path: Path, source: ToySource, options: ExportOptions) -> None:
    job, report = ingest_and_export(lake, source, tmp_path / "out", options)
    assert (report.copied, report.transcoded) == (2 * sum(LENGTHS), 0)
    shift, first = 0 if type(source) is ToySource else 100, 0
    for row, count in zip(episodes(tmp_path / "out"), LENGTHS, strict=True):
        for key, camera in (("observation.images.front", 0), ("observation.images.wrist", 1000)):
            assert shown(tmp_path / "out", key, row, FPS) == list(range(first + shift + camera, first + shift + camera + count))
        first += count
    files = len(list((tmp_path / "out/videos/observation.images.front").rglob("*.mp4")))
    hidden = getattr(source, "cut", 0) > 0
    assert files == (len(LENGTHS) if options is TINY or hidden else 1)
    assert len(list((tmp_path / "out/data").rglob("*.parquet"))) == (len(LENGTHS) if options is TINY else 1)
    assert make_plan(job).fps == FPS


def test_a_file_never_grows_beyond_what_float32_seconds_can_tell_apart(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "LONGEST_S", 25 / FPS)
    ingest_and_export(lake, ToySource(), tmp_path / "out")
    rows = episodes(tmp_path / "out")
    key = "videos/observation.images.front"
    assert [r[f"{key}/file_index"] for r in rows] == [0, 0, 1, 1]  # 12 + 9, then 15 + 10 frames
    assert [r[f"{key}/from_timestamp"] for r in rows] == [0.0, 12 / FPS, 0.0, 15 / FPS]
    assert [r[f"{key}/to_timestamp"] for r in rows] == [12 / FPS, 21 / FPS, 15 / FPS, 25 / FPS]


def test_codecs_never_share_a_file(lake: Lake, tmp_path: Path) -> None:
    class Mixed(ReorderedSource):
        def episode(self, index: int) -> EpisodeDraft:
            return ReorderedSource(codec="libsvtav1" if index == 1 else "libx264").episode(index)

    ingest_and_export(lake, Mixed(), tmp_path / "out")
    assert [r["videos/observation.images.front/file_index"] for r in episodes(tmp_path / "out")] == [0, 1, 2, 2]


def test_tables_hold_exact_types_and_one_row_group_per_episode(lake: Lake, tmp_path: Path) -> None:
    ingest_and_export(lake, ToySource(), tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == list(LENGTHS)
    assert str(file.schema_arrow.field("action").type) == "fixed_size_list<element: float>[4]"
    assert {n: str(file.schema_arrow.field(n).type) for n in ("timestamp", "index", "task_index")} == {
        "timestamp": "float", "index": "int64", "task_index": "int64",
    }  # fmt: skip
    table = file.read()
    assert table.column("index").to_pylist() == list(range(sum(LENGTHS)))
    grid = np.concatenate([(np.arange(n) / FPS).astype(np.float32) for n in LENGTHS])
    assert table.column("timestamp").to_numpy().tobytes() == grid.tobytes()
    tasks = pq.ParquetFile(tmp_path / "out/meta/tasks.parquet")
    assert json.loads(tasks.schema_arrow.metadata[b"pandas"])["index_columns"] == ["task"]
    assert tasks.read().to_pylist() == [{"task_index": 0, "task": "task 0"}, {"task_index": 1, "task": "task 1"}]


def test_statistics_are_the_true_ones(lake: Lake, tmp_path: Path) -> None:
    ingest_and_export(lake, ToySource(), tmp_path / "out", ExportOptions(image_frames=100))
    found = json.loads((tmp_path / "out/meta/stats.json").read_text())
    table = pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet").read()
    for key in ("action", "observation.state", "timestamp", "index", "episode_index"):
        values = np.array(table.column(key).to_pylist(), np.float64).reshape(table.num_rows, -1)
        for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
            assert found[key][name] == pytest.approx(np.quantile(values, share, axis=0), abs=1e-9)
        for name in ("min", "max", "mean", "std"):
            assert found[key][name] == pytest.approx(getattr(np, name)(values, axis=0), abs=1e-9)
        assert found[key]["count"] == [table.num_rows]
    row = episodes(tmp_path / "out")[1]
    mine = np.array(table.column("action").to_pylist())[LENGTHS[0] : LENGTHS[0] + LENGTHS[1]]
    assert row["stats/action/q90"] == pytest.approx(np.quantile(mine, 0.9, axis=0))
    assert np.shape(row["stats/observation.images.front/mean"]) == (3, 1, 1)
    front = found["observation.images.front"]
    assert 0 <= front["min"][0][0][0] <= front["q50"][0][0][0] <= front["max"][2][0][0] <= 1


def test_picture_statistics_equal_numpy_over_all_pixels() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 31, 17, 3), np.uint8) // rng.integers(1, 9, (1, 1, 1, 3), np.uint8)
    found = picture_stats(picture_counts(frames), 3)
    pixels = frames.reshape(-1, 3) / 255
    for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        assert found[name].reshape(-1) == pytest.approx(np.quantile(pixels, share, axis=0), abs=1e-12)
    for name in ("min", "max", "mean", "std"):
        assert found[name].reshape(-1) == pytest.approx(getattr(np, name)(pixels, axis=0), abs=1e-9)
    assert picture_counts(np.zeros((1, 480, 640, 3), np.uint8)).sum() == 3 * 120 * 160  # thinned as LeRobot does


def test_statistics_in_blocks_equal_statistics_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    whole = value_stats({"x": [values[:20], values[20:]]})["x"]
    monkeypatch.setattr(stats, "BLOCK_BYTES", 8 * 50 * 3)
    parts = value_stats({"x": [values]})["x"]
    assert all(np.array_equal(whole[k], parts[k]) for k in whole)
    assert whole["q50"] == pytest.approx(np.quantile(values.astype(np.float64), 0.5, axis=0))


def test_values_that_are_not_finite_do_not_poison_statistics() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan], [np.inf, 7.0, np.nan]])
    found = value_stats({"x": [values]})["x"]
    assert found["mean"].tolist() == [2.0, 6.0, 0.0]
    assert found["count"].tolist() == [3]


class Shaped(ToySource):
    """A toy with every kind of feature, two awkward names, a reward, a privileged camera, and texts that change."""

    def contract(self) -> Any:
        base = super().contract()
        extra = (
            Feature("observation.image_embedding", "float16", (3,)),
            Feature("pose", "float64", (2, 3)),
            Feature("touch", "bool", (1,)),
            Feature("count", "uint8", (2,)),
            Feature("remark", "string", (1,)),
            Feature("index", "int32", (1,)),
            Feature("object", "float32", (3,), privileged=True),
        )
        cameras = (*base.cameras, Camera("labels", role="segmentation", privileged=True))
        return replace(base, features=base.features + extra, cameras=cameras, streams=(Stream("gaze", ("x", "y")),))

    def episode(self, index: int) -> EpisodeDraft:
        count = self.lengths[index]
        plain = ToySource(lengths=self.lengths).episode(index)
        t_ns = plain.steps.column("t_ns").to_numpy()
        rng = np.random.default_rng(index)
        columns: dict[str, Any] = {n: np.array(plain.steps.column(n).to_pylist()) for n in ("observation.state", "action")}
        columns |= {
            "observation.image_embedding": rng.normal(size=(count, 3)), "pose": rng.normal(size=(count, 2, 3)),
            "touch": rng.random(count) > 0.5, "count": rng.integers(0, 255, (count, 2)), "remark": [f"r{i}" for i in range(count)],
            "index": np.arange(count) * 7, "object": rng.normal(size=(count, 3)),
        }  # fmt: skip
        labels = encode_png("labels", rng.integers(0, 9, (count, 16, 16)).astype(np.uint8), t_ns)
        seen = np.arange(count, dtype=np.int32)
        steps = build_steps(
            self.contract(), t_ns, columns, language=[f"part {i * 2 // count}" for i in range(count)],
            frames=dict.fromkeys(("front", "wrist", "labels"), seen), reward=np.linspace(0, 1, count),
        )  # fmt: skip
        return replace(plain, steps=steps, tracks=(*plain.tracks, labels))


def test_every_kind_of_feature_is_written_as_what_it_is(lake: Lake, tmp_path: Path) -> None:
    job, report = ingest_and_export(lake, Shaped(), tmp_path / "out")
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    kinds = {k: (f["dtype"], tuple(f["shape"])) for k, f in info["features"].items()}
    assert kinds["observation.img_embedding"] == ("float16", (3,))
    assert kinds["pose"] == ("float64", (2, 3))
    assert (kinds["touch"], kinds["count"], kinds["remark"]) == (("bool", (1,)), ("uint8", (2,)), ("string", (1,)))
    assert kinds["source_index"] == ("int32", (1,))
    assert kinds["next.reward"] == ("float32", (1,))
    assert "object" not in kinds
    assert "observation.images.labels" not in kinds
    table = pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet").read()
    steps = job.episodes[0].open(job.lake).episode_steps(job.episodes[0].episode_id)
    pose = np.array(table.column("pose").to_pylist()[: LENGTHS[0]])
    assert pose.shape == (LENGTHS[0], 2, 3)
    assert pose.reshape(LENGTHS[0], -1).tolist() == steps.column("pose").to_pylist()
    assert table.column("source_index").to_pylist()[:3] == [0, 7, 14]
    assert table.column("remark").to_pylist()[:2] == ["r0", "r1"]
    assert set(table.column("task_index").to_pylist()) == {0, 1}
    assert episodes(tmp_path / "out")[0]["tasks"] == ["part 0", "part 1"]
    assert any("'observation.image_embedding' is called 'observation.img_embedding'" in n for n in report.notes)
    assert any("gaze" in n for n in report.notes)
    assert json.loads((tmp_path / "out/meta/cotrain.json").read_text())["renamed"]["index"] == "source_index"


def test_privileged_labels_are_exported_on_request_and_bit_by_bit(lake: Lake, tmp_path: Path) -> None:
    job, _ = ingest_and_export(lake, Shaped(), tmp_path / "out", ExportOptions(privileged=True, image_frames=2))
    table = pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet").read()
    shard = job.episodes[0].open(job.lake)
    track = shard.track(job.episodes[0].episode_id, "labels")
    cells = table.column("observation.images.labels").to_pylist()
    assert [c["bytes"] for c in cells[: LENGTHS[0]]] == [bytes(track.packet(n)) for n in range(LENGTHS[0])]
    info = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]
    assert info["observation.images.labels"] == {"dtype": "image", "shape": [16, 16, 1], "names": ["height", "width", "channels"]}
    assert info["object"]["shape"] == [3]


class Irregular(ToySource):
    """The camera runs at its own uneven rate: some steps see the same frame, one sees none."""

    def episode(self, index: int) -> EpisodeDraft:
        plain = ToySource(lengths=self.lengths).episode(index)
        count, first = self.lengths[index], sum(self.lengths[:index])
        times = np.arange(count, dtype=np.int64) * SECOND // FPS + (np.arange(count) % 3) * 4_000_000
        frames = np.stack([barcode(first + n) for n in range(count)])
        front = encode_h264("front", frames, times, FPS, gop=4)
        seen = (np.arange(count) // 2).astype(np.int32)
        seen[3] = -1
        columns = {n: np.array(plain.steps.column(n).to_pylist()) for n in ("observation.state", "action")}
        frames_of = {"front": seen, "wrist": np.arange(count, dtype=np.int32)}
        steps = build_steps(self.contract(), times, columns, language="go", frames=frames_of)
        return replace(plain, steps=steps, tracks=(front, plain.tracks[1]))


def test_a_track_that_does_not_match_its_steps_is_encoded_again_and_counted(lake: Lake, tmp_path: Path) -> None:
    _, report = ingest_and_export(lake, Irregular(), tmp_path / "out")
    assert (report.copied, report.transcoded) == (sum(LENGTHS), sum(LENGTHS))
    first = 0
    for row, count in zip(episodes(tmp_path / "out"), LENGTHS, strict=True):
        wanted = [0 if n == 3 else first + n // 2 for n in range(count)]
        assert shown(tmp_path / "out", "observation.images.front", row, FPS) == wanted
        first += count
    clock = pq.ParquetFile(tmp_path / "out/meta/cotrain_clock.parquet").read()
    assert clock.column("t_ns").to_pylist()[:3] == [0, 54_000_000, 108_000_000]
    assert clock.num_rows == sum(LENGTHS)
    facts = json.loads((tmp_path / "out/meta/cotrain.json").read_text())
    assert facts["transcoded"] == {"observation.images.front": [0, 1, 2, 3]}


def test_texts_hold_from_their_step_on_and_repeat_on_every_frame(lake: Lake, tmp_path: Path) -> None:
    run_stage(IngestStage(lake, ToySource()), execution=HERE)
    first = job_of(lake, tmp_path / "x").episodes[0].episode_id
    rows = (
        LanguageRow("motion", "move up", 0),
        LanguageRow("motion", "close the gripper", 3 * SECOND // FPS + 1_000_000),
        LanguageRow("trace", "[[1, 2]]", 5 * SECOND // FPS, camera="front"),
    )
    job = job_of(lake, tmp_path / "out", ONE, {first: rows})
    LeRobotExporter().export(job)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]
    assert info["language_persistent"] == {"dtype": "language", "shape": [1], "names": None}
    table = pq.ParquetFile(tmp_path / "out/data/chunk-000/file-000.parquet").read()
    persistent, events = table.column("language_persistent").to_pylist(), table.column("language_events").to_pylist()
    atom = {"role": "assistant", "style": "motion", "camera": None, "tool_calls": None}
    wanted = [
        {"content": "move up", "timestamp": 0.0, **atom},
        {"content": "close the gripper", "timestamp": float(np.float32(3 / FPS)), **atom},
    ]
    assert persistent[: LENGTHS[0]] == [wanted] * LENGTHS[0]
    assert persistent[LENGTHS[0] :] == [[]] * sum(LENGTHS[1:])
    assert [i for i, e in enumerate(events) if e] == [5]
    assert events[5][0]["camera"] == "observation.images.front"


def test_an_odd_rate_is_laid_on_a_whole_grid_and_said(lake: Lake, tmp_path: Path) -> None:
    run_stage(IngestStage(lake, ToySource()), execution=HERE)
    job = job_of(lake, tmp_path / "out", ExportOptions(fps=10, image_frames=0))
    report = LeRobotExporter().export(job)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["fps"] == 10
    assert (tmp_path / "out/meta/cotrain_clock.parquet").exists()
    assert any("10 Hz grid" in n for n in report.notes)
    assert "observation.images.front" not in json.loads((tmp_path / "out/meta/stats.json").read_text())
    plan = make_plan(replace(job, options=ExportOptions(), contract=replace(job.contract, control_hz=29.97)))
    assert plan.fps == 30
    assert any("29.97" in n for n in plan.notes)


def test_what_cannot_be_exported_says_why(lake: Lake, tmp_path: Path) -> None:
    run_stage(IngestStage(lake, ToySource()), execution=HERE)
    job = job_of(lake, tmp_path / "out")
    with pytest.raises(UsageError, match="no episodes were chosen"):
        make_plan(replace(job, episodes=()))
    with pytest.raises(UsageError, match=r"0\.300 Hz.*--fps"):
        make_plan(replace(job, contract=replace(job.contract, control_hz=0.3)))
    clash = (*job.contract.features, Feature("a.image", "float32", (1,)), Feature("a.img", "float32", (1,)))
    with pytest.raises(ContractError, match=r"would be called 'a\.img'"):
        make_plan(replace(job, contract=replace(job.contract, features=clash)))


def test_the_card_and_the_lineage_lead_back(tmp_path: Path) -> None:
    job, _ = export_toy(tmp_path / "lake", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "data_files: data/*/*.parquet" in card
    facts = json.loads((tmp_path / "out/meta/cotrain.json").read_text())
    assert facts["provenance"] == {"asked": "by a test"}
    assert [r["cotrain/episode_id"] for r in episodes(tmp_path / "out")] == [e.episode_id for e in job.episodes]
    assert {r["cotrain/success"] for r in episodes(tmp_path / "out")} == {"true"}
