"""LeRobot exports as `LeRobotDataset` sees them. The only module that imports lerobot: that alone takes many seconds."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotations import read_annotations
from pipelines.cli.app import run
from pipelines.exporters.base import ExportJob, ExportOptions, VerifyReport
from pipelines.exporters.lerobot import LeRobotExporter
from pipelines.exporters.lerobot.verify import _load, offline, verify_export
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.sources.lerobot import LeRobotSource
from pipelines.unit import run_stage
from schemas.annotation import LanguageRow
from schemas.errors import VerificationError
from tests.pipelines.exporters.test_lerobot import Irregular, Shaped
from tests.support.cups import CupSource
from tests.support.lerobot import HERE, TINY, ReorderedSource, edit_json, edit_parquet, export_toy, job_of, packets, set_column
from tests.support.toys import FPS, LENGTHS, SECOND, ToySource
from tests.support.video import read_barcode

CAMERAS = {"observation.images.front": 100, "observation.images.wrist": 1100}


def verified(folder: Path, job: ExportJob, every: int = 1) -> VerifyReport:
    return LeRobotExporter().verify(folder, job, every=every)


@pytest.mark.parametrize(
    "source", [ReorderedSource(), ReorderedSource(codec="libsvtav1"), ReorderedSource(cut=3)], ids=["B-frames", "AV1", "cut"]
)
@pytest.mark.parametrize("options", [TINY, ExportOptions(image_frames=2)], ids=["many files", "one file"])
def test_every_step_shows_the_barcode_it_should(tmp_path: Path, source: ToySource, options: ExportOptions) -> None:
    job, _ = export_toy(tmp_path / "lake", tmp_path / "out", source, options)
    many = options is TINY
    assert (len(list((tmp_path / "out").rglob("*.mp4"))) >= 4) is (many or getattr(source, "cut", 0) > 0)
    assert (len(list((tmp_path / "out/data").rglob("*.parquet"))) >= 2) is many
    report = verified(tmp_path / "out", job)
    assert report.ok, report.differences
    assert report.warnings == ()
    assert report.steps_compared == sum(LENGTHS)
    assert report.frames_compared > 2 * sum(LENGTHS)
    with offline():
        dataset = _load(tmp_path / "out", job, None)
        for index in range(len(dataset)):
            item = dataset[index]
            assert {k: read_barcode(item[k].permute(1, 2, 0).numpy()) for k in CAMERAS} == {
                k: index + s for k, s in CAMERAS.items()
            }
            assert item["task"] == f"task {item['episode_index'].item() % 2}"


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_torchcodec_sees_the_same_frames(tmp_path: Path, codec: str) -> None:
    try:
        import torchcodec  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchcodec cannot be loaded, it needs the system's FFmpeg: {str(error)[:80]}")
    options = ExportOptions(part_mb=0.001, image_frames=0, video_mb=0.01)
    job, _ = export_toy(tmp_path / "lake", tmp_path / "out", ReorderedSource(codec=codec), options)
    found = verify_export(tmp_path / "out", job, 1, backend="torchcodec")
    assert found.differences == ()
    assert found.reader.endswith("torchcodec")
    assert found.frames_compared >= 2 * sum(LENGTHS)


def test_windows_clamp_at_episode_edges_and_say_so(tmp_path: Path) -> None:
    job, _ = export_toy(tmp_path / "lake", tmp_path / "out", ReorderedSource())
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    delta = {"action": [-1 / FPS, 0.0, 1 / FPS, 2 / FPS], "observation.images.front": [-1 / FPS, 0.0]}
    with offline():
        dataset = _load(tmp_path / "out", job, delta)
        for episode, count in enumerate(LENGTHS):
            for step in (0, count - 2, count - 1):
                item = dataset[int(starts[episode]) + step]
                asked = np.array([step - 1, step, step + 1, step + 2])
                inside = asked.clip(0, count - 1)
                assert (item["action"][:, 0] * 2).tolist() == (starts[episode] + inside).tolist()
                assert item["action_is_pad"].tolist() == (asked != inside).tolist()
                seen = [read_barcode(f.permute(1, 2, 0).numpy()) - 100 for f in item["observation.images.front"]]
                assert seen == (starts[episode] + inside[:2]).tolist()


def test_real_robot_set(lake: Lake, data: Path, tmp_path: Path) -> None:
    source = LeRobotSource(str(data / "lerobot/g1_v30_3ep"), SourceOptions("g1"))
    run_stage(IngestStage(lake, source), execution=HERE)
    job = job_of(lake, tmp_path / "out", ExportOptions(image_frames=2), name="g1")
    LeRobotExporter().export(job)
    report = verified(tmp_path / "out", job, every=50)
    assert report.ok, report.differences
    assert (report.steps_compared, report.warnings) == (748, ())
    assert report.detail["windows_compared"] == 12


def test_every_kind_of_feature_label_image_text_and_uneven_clock(tmp_path: Path) -> None:
    lake = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(lake, Shaped()), execution=HERE)
    first = job_of(lake, tmp_path / "x").episodes[1].episode_id
    rows = (
        LanguageRow("motion", "move up", 0),
        LanguageRow("motion", "hold", 3 * SECOND // FPS),
        LanguageRow("trace", "[[1, 2]]", 5 * SECOND // FPS, camera="front"),
    )
    job = job_of(lake, tmp_path / "out", replace(TINY, privileged=True), {first: rows})
    LeRobotExporter().export(job)
    report = verified(tmp_path / "out", job)
    assert report.ok, report.differences
    with offline():
        item = _load(tmp_path / "out", job, None)[LENGTHS[0] + 5]
        assert [a["content"] for a in item["language_persistent"]] == ["move up", "hold"]
        assert item["language_events"][0]["camera"] == "observation.images.front"
        assert item["pose"].shape == (2, 3)
        assert item["remark"] == "r5"


def test_tracks_encoded_again_still_look_like_what_the_steps_see(tmp_path: Path) -> None:
    job, report = export_toy(tmp_path / "lake", tmp_path / "out", Irregular())
    assert report.transcoded == sum(LENGTHS)
    found = verified(tmp_path / "out", job)
    assert found.ok, found.differences


def flip_value(folder: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        values = np.array(table.column("action").to_pylist(), np.float32)
        values[2, 1] = np.nextafter(values[2, 1], np.float32(9))
        kind = table.schema.field("action").type
        return table.set_column(
            table.schema.get_field_index("action"), "action", pa.FixedSizeListArray.from_arrays(values.reshape(-1), type=kind)
        )

    edit_parquet(folder / "data/chunk-000/file-001.parquet", change)


def swap_videos(folder: Path) -> None:
    shown = folder / "videos/observation.images.front/chunk-000"
    shutil.copy(shown / "file-002.mp4", shown / "file-000.mp4")


def drop_pandas_index(folder: Path) -> None:
    edit_parquet(folder / "meta/tasks.parquet", lambda t: t.replace_schema_metadata(None))


def add_unknown_key(folder: Path) -> None:
    edit_json(folder / "meta/info.json", lambda body: body.update(made_by="somebody"))


def shift_times(folder: Path) -> None:
    for path in (folder / "meta/episodes").rglob("*.parquet"):
        name = "videos/observation.images.wrist/from_timestamp"
        edit_parquet(path, lambda t: set_column(t, name, [1 / FPS, *t.column(name).to_pylist()[1:]]))  # noqa: B023


def add_column(folder: Path) -> None:
    edit_parquet(folder / "data/chunk-000/file-000.parquet", lambda t: t.append_column("extra", t.column("index")))


def test_an_export_that_does_not_load_at_all_is_an_error(exported: tuple[ExportJob, Path], tmp_path: Path) -> None:
    job, clean = exported
    shutil.copytree(clean, tmp_path / "broken")
    add_column(tmp_path / "broken")
    with pytest.raises(VerificationError, match="LeRobotDataset cannot load"):
        verified(tmp_path / "broken", job)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_value, r"episode 1, step 2, action: \["),
        (swap_videos, "episode 0, step 0, observation.images.front: pixels differ"),
        (drop_pandas_index, "step 0, task: "),
        (add_unknown_key, "LeRobot warned: .*made_by"),
        (shift_times, "episode 0, step 0, observation.images.wrist: pixels differ"),
        (shift_times, "episode 0, step 11: LeRobot cannot read it: FrameTimestampError"),
    ],
)
def test_whatever_is_wrong_is_found(exported: tuple[ExportJob, Path], tmp_path: Path, damage: Any, said: str) -> None:
    job, clean = exported
    folder = tmp_path / "broken"
    shutil.copytree(clean, folder)
    damage(folder)
    report = verified(folder, replace(job, folder=folder), every=5)
    assert not report.ok
    assert any(re.search(said, d) for d in report.differences), report.differences[:3]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportJob, Path]:
    root = tmp_path_factory.mktemp("exported")
    job, _ = export_toy(root / "lake", root / "out", ReorderedSource())
    return job, root / "out"


@pytest.mark.parametrize("part_mb", [2048, 0.001])
def test_lerobots_own_tools_accept_the_export(tmp_path: Path, part_mb: float) -> None:
    job, _ = export_toy(tmp_path / "lake", tmp_path / "out", ReorderedSource(), ExportOptions(part_mb=part_mb, image_frames=2))
    with offline():
        from lerobot.datasets.dataset_tools import add_features, delete_episodes, merge_datasets, split_dataset

        dataset = _load(tmp_path / "out", job, None)
        kept = delete_episodes(dataset, [0], output_dir=tmp_path / "kept", repo_id="local/kept")
        assert kept.meta.total_frames == sum(LENGTHS[1:])
        both = merge_datasets([dataset, kept], output_repo_id="local/both", output_dir=tmp_path / "both")
        assert [_shown(both, n) for n in (0, sum(LENGTHS), len(both) - 1)] == [100, LENGTHS[0] + 100, sum(LENGTHS) + 99]
        assert _shown(kept, 0) == LENGTHS[0] + 100
        split = split_dataset(dataset, {"train": [0, 2], "val": [1, 3]}, output_dir=tmp_path / "split")
        assert [len(split[name]) for name in ("train", "val")] == [LENGTHS[0] + LENGTHS[2], LENGTHS[1] + LENGTHS[3]]
        assert _shown(split["val"], 0) == LENGTHS[0] + 100
        scores = np.arange(len(dataset), dtype=np.float32)[:, None]
        more = {"score": (scores, {"dtype": "float32", "shape": [1], "names": None})}
        added = add_features(dataset, more, output_dir=tmp_path / "added", repo_id="local/added")
        assert float(added[5]["score"]) == 5
        assert _shown(added, 5) == 105


@pytest.mark.slow
def test_lerobot_train_runs_on_the_export(tmp_path: Path) -> None:
    """Ten steps of a small ACT, by the command a user types."""
    pytest.importorskip("accelerate", reason="lerobot-train needs accelerate")
    export_toy(tmp_path / "lake", tmp_path / "out", ToySource(), ExportOptions(part_mb=0.001))
    small = {"dim_model": 32, "n_heads": 2, "dim_feedforward": 64, "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 8,
             "chunk_size": 4, "n_action_steps": 4, "type": "act", "device": "cpu", "push_to_hub": "false",
             "pretrained_backbone_weights": "null"}  # fmt: skip
    options = {"dataset.repo_id": "local/toy", "dataset.root": tmp_path / "out", "dataset.video_backend": "pyav", "steps": 10,
               "batch_size": 2, "num_workers": 0, "log_freq": 5, "save_checkpoint": "false", "wandb.enable": "false",
               "output_dir": tmp_path / "run", **{f"policy.{k}": v for k, v in small.items()}}  # fmt: skip
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_train", *(f"--{k}={v}" for k, v in options.items())]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=420, check=False, env=environment, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert "step:10 " in said
    assert "End of training" in said


def _shown(dataset: Any, index: int) -> int:
    return read_barcode((dataset[index]["observation.images.front"].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


@pytest.mark.parametrize("storage", ["video", "image"])
def test_what_lerobot_writes_comes_back_from_a_round_trip(tmp_path: Path, storage: str) -> None:
    """The other direction of independence: a set recorded with LeRobot's own writer, depth included, goes in and out unchanged."""
    names, rng = ["height", "width", "channels"], np.random.default_rng(0)
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
        "pose": {"dtype": "float64", "shape": (2, 2), "names": None},
        "observation.images.top": {"dtype": storage, "shape": (64, 96, 3), "names": names},
        "observation.images.far": {"dtype": storage, "shape": (64, 96, 1), "names": names, "info": {"is_depth_map": True}},
    }
    with offline():
        from lerobot.datasets import LeRobotDataset

        made = LeRobotDataset.create("local/made", 10, features, root=tmp_path / "made", use_videos=storage == "video")
        for episode in range(2):
            for step in range(4):
                frame = {k: rng.normal(size=f["shape"]).astype(f["dtype"]) for k, f in features.items() if "images" not in k}
                frame["observation.images.top"] = rng.integers(0, 255, (64, 96, 3), np.uint8)
                frame["observation.images.far"] = np.full((64, 96, 1), 500 + 100 * step + episode, np.uint16)
                made.add_frame(frame | {"task": f"do {episode}"})
            made.save_episode()
        made.finalize()
    lake = Lake.at(tmp_path / "lake")
    report = run_stage(IngestStage(lake, LeRobotSource(str(tmp_path / "made"), SourceOptions("made"))), execution=HERE)
    assert not report.rejects
    job = job_of(lake, tmp_path / "out", ExportOptions(), name="made")
    written = LeRobotExporter().export(job)
    assert (written.copied, written.transcoded) == (16, 0)
    assert verified(tmp_path / "out", job).ok
    theirs, ours = (pq.ParquetFile(tmp_path / d / "data/chunk-000/file-000.parquet").read() for d in ("made", "out"))
    for name in theirs.column_names:
        a, b = (t.column(name).to_pylist() for t in (theirs, ours))
        if "images" in name:
            a, b = ([cell["bytes"] for cell in column] for column in (a, b))
        assert a == b, name
    for path in (p.relative_to(tmp_path / "made") for p in (tmp_path / "made").rglob("*.mp4")):
        assert packets(tmp_path / "out" / path) == packets(tmp_path / "made" / path)
    declared, mine = (json.loads((tmp_path / d / "meta/info.json").read_text())["features"] for d in ("made", "out"))
    assert {k: (f["dtype"], f["shape"], f["names"]) for k, f in declared.items()} == {
        k: (f["dtype"], f["shape"], f["names"]) for k, f in mine.items()
    }
    assert mine["observation.images.far"]["info"] == declared["observation.images.far"]["info"]
    with offline():
        first, second = (LeRobotDataset("local/x", root=tmp_path / d, video_backend="pyav") for d in ("made", "out"))
        for index in range(8):
            assert np.array_equal(*(d[index]["observation.images.far"].numpy() for d in (first, second)))


def test_texts_reach_lerobots_own_resolvers(tmp_path: Path) -> None:
    """Questions, paraphrases, plans, subtasks and motions of a lake, exported by the command, asked for as a LeRobot recipe asks."""
    lake = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(lake, CupSource(seeds=(0, 1))), execution=HERE)
    for name, settings in (("text", {"kinds": ["qa", "paraphrase", "plan"]}), ("segments", {}), ("language_motion", {})):
        run_stage(AnnotateStage.named(lake, name, "all", settings), execution=HERE)
    catalog = Catalog(lake)
    episodes = catalog.latest("episodes").sort("dataset", "shard", "first_row").collect()
    table = read_annotations(catalog, "text", episodes).filter("valid")
    assert (
        run(["export", "cups", "--to", "lerobot", "--out", str(tmp_path / "out"), "--val-share", "0", "--lake", lake.root]) == 0
    )
    with offline():
        from lerobot.annotations.steerable_pipeline.validator import classify_vqa_answer
        from lerobot.datasets.language import validate_camera_field
        from lerobot.datasets.language_render import active_at, emitted_at
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        dataset = LeRobotDataset("local/cups", root=tmp_path / "out/cups", video_backend="pyav", return_uint8=True)
        asked, camera = list[tuple[int, int, str, str]](), "observation.images.front"
        for item in (dataset[i] for i in range(len(dataset))):
            t, said = float(item["timestamp"]), {"persistent": item["language_persistent"], "events": item["language_events"]}
            for row in (*said["persistent"], *said["events"]):
                validate_camera_field(row["style"], row["camera"])
            for style in ("plan", "subtask", "motion"):
                assert active_at(t, persistent=said["persistent"], style=style), style
            assert len({r["content"] for r in said["persistent"] if r["style"] == "task_aug"}) > 20
            query, reply = (emitted_at(t, **said, style="vqa", role=role, camera=camera) for role in ("user", "assistant"))
            assert (query is None) == (reply is None)
            if query is not None and reply is not None:
                answer = json.loads(reply["content"])
                assert classify_vqa_answer(answer) == "attribute"
                assert read_barcode(item[camera].permute(1, 2, 0).numpy()) == int(item["frame_index"])
                asked.append((int(item["episode_index"]), int(item["frame_index"]), query["content"], answer["value"]))
    place = {e: n for n, e in enumerate(episodes["episode_id"])}
    told = table.filter(table["style"] == "vqa")
    wanted = [
        (place[r["episode_id"]], r["at_ns"], f"{r['question']} ({' / '.join(r['choices'])})", r["answer"])
        for r in told.iter_rows(named=True)
    ]
    assert len(wanted) > 10
    assert sorted((e, round(n * SECOND / 5), q, a) for e, n, q, a in asked) == sorted(wanted)
    assert all(r["start_ns"] <= r["at_ns"] < r["end_ns"] for r in told.iter_rows(named=True))
