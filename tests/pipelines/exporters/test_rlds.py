import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import simplejpeg

from catalog.lake import Lake
from pipelines.exporters.base import ExportEpisode, ExportJob
from pipelines.exporters.registry import EXPORTERS
from pipelines.exporters.rlds.check import check_export
from pipelines.exporters.rlds.exporter import RldsExporter
from pipelines.exporters.rlds.pictures import runs
from pipelines.exporters.rlds.records import active_texts
from pipelines.exporters.rlds.statistics import Spool
from pipelines.formats.dataset_info import DatasetInfo
from pipelines.formats.example import decode_example
from pipelines.formats.tfds_features import Image, Tensor, leaves, read_features
from pipelines.formats.tfrecord import read_record, read_records
from schemas.contract import Feature
from schemas.errors import ContractError, CorruptMediaError, UsageError
from tests.pipelines.exporters.rich import SECOND, RichSource, exported_toys, job_of
from tests.support.toys import ToySource
from tests.support.video import read_barcode


def records(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every record by episode id, with its split, read through `dataset_info.json`."""
    info, found = DatasetInfo.read(folder), {}
    for split in info.splits:
        for shard in info.shards(split):
            for _, payload in read_records(folder / shard):
                values = decode_example(payload)
                found[values["episode_metadata/episode_id"][0].decode()] = (split.name, values)
    return found


def recorded(job: ExportJob) -> list[ExportEpisode]:
    """The job's episodes in the order of their source, whatever split they are in."""
    return sorted(job.episodes, key=lambda e: e.row["first_row"])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ExportJob:
    return exported_toys(RldsExporter(), tmp_path_factory.mktemp("toy"), rlds_mb=0.06)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> ExportJob:
    root = tmp_path_factory.mktemp("rich")
    job = job_of(Lake.at(root / "lake"), RichSource(), root / "out" / "rich_v1_0", privileged=True, val_share=0.5)
    report = RldsExporter().export(job)
    assert (report.copied, report.transcoded) == (2 * 27, 27 - 3)
    assert [n.split(" ")[0:3] for n in report.notes][:2] == [["3", "steps", "have"], ["camera", "ghost", "has"]]
    return job


def test_every_step_equals_the_lake(toy: ExportJob):
    folder = toy.folder / "1.0.0"
    assert list(check_export(folder)) == []
    found = records(folder)
    for episode in toy.episodes:
        steps = episode.open(toy.lake).episode_steps(episode.episode_id)
        _, values = found[episode.episode_id]
        for key, column in (("observation/state", "observation.state"), ("action", "action")):
            assert values[f"steps/{key}"].reshape(-1, 4).tolist() == steps.column(column).to_pylist()
        assert values["steps/timestamp_ns"].tolist() == steps.column("t_ns").to_pylist()
        assert [t.decode() for t in values["steps/language_instruction"]] == steps.column("language").to_pylist()
        count = steps.num_rows
        assert values["steps/is_first"].tolist() == [1] + [0] * (count - 1)
        assert values["steps/is_last"].tolist() == [0] * (count - 1) + [1]
        assert values["steps/reward"].tolist() == [0.0] * count
        assert values["steps/discount"].tolist() == [1.0] * count
        for camera, shift in (("front", 0), ("wrist", 1000)):
            numbers = [read_barcode(simplejpeg.decode_jpeg(p)) for p in values[f"steps/observation/{camera}"]]
            assert numbers == [int(s[0]) + shift for s in steps.column("observation.state").to_pylist()]


def test_motions_hold_until_the_next_one(toy: ExportJob):
    found = records(toy.folder / "1.0.0")
    first, second = (found[e.episode_id][1]["steps/language_motion"] for e in toy.episodes[:2])
    assert first == [b""] * 2 + [b"move left"] * 4 + [b"move right"] * (len(first) - 6)
    assert set(second) == {b""}
    rows = toy.language[toy.episodes[0].episode_id]
    assert active_texts(rows, [0, SECOND // 10, SECOND]) == ["", "move left", "move right"]


def test_shards_close_at_their_size_and_the_index_finds_every_episode(toy: ExportJob):
    folder = toy.folder / "1.0.0"
    info, index = DatasetInfo.read(folder), pl.read_parquet(folder / "index.parquet")
    assert [s.name for s in info.splits] == ["train", "val"]
    assert [s.records for s in info.splits] == [3, 1]
    assert len(info.split("train").shard_lengths) > 1
    assert not list(folder.glob(".*"))
    assert index.height == len(toy.episodes)
    for row in index.iter_rows(named=True):
        values = decode_example(read_record(folder / row["shard"], row["offset"]))
        assert values["episode_metadata/episode_id"] == [row["episode_id"].encode()]
        assert len(values["steps/is_first"]) == row["n_steps"]


def test_statistics_are_true_quantiles_of_train(toy: ExportJob):
    folder = toy.folder / "1.0.0"
    said = json.loads((folder / "dataset_statistics.json").read_text())
    train = [values["steps/action"].reshape(-1, 4) for split, values in records(folder).values() if split == "train"]
    rows = np.concatenate(train).astype(np.float64)
    assert said["num_transitions"] == len(rows)
    assert said["num_trajectories"] == len(train)
    for names, wanted in (
        (("q01", "p01"), np.quantile(rows, 0.01, axis=0)),
        (("q99", "p99"), np.quantile(rows, 0.99, axis=0)),
        (("mean",), rows.mean(0)),
        (("std",), rows.std(0)),
        (("min",), rows.min(0)),
        (("max",), rows.max(0)),
    ):
        for name in names:
            np.testing.assert_allclose(said["action"][name], wanted, rtol=1e-12, atol=1e-12)
    assert said["action"]["mask"] == [True, True, True, False]
    assert said["proprio"] == said["observation/state"]


def test_statistics_skip_what_is_not_a_number():
    spool = Spool(2, np.dtype(np.float32))
    spool.append(np.array([[1, np.nan], [np.inf, np.nan], [3, np.nan]], np.float32))
    summary = spool.summary()
    spool.close()
    assert (summary["mean"], summary["max"], summary["q01"]) == ([2.0, None], [3.0, None], [1.02, None])


def test_every_dtype_keeps_its_value(rich: ExportJob):
    folder = rich.folder / "1.0.0"
    assert list(check_export(folder)) == []
    declared, found = dict(leaves(read_features(folder))), records(folder)
    assert declared["steps/observation/state"] == Tensor((3,), "float32", doc="in m; x, y, gripper")
    assert declared["steps/observation/state_float64"].encoding == "bytes"
    assert declared["steps/observation/grid"] == Tensor((10, 10), "uint8", "bytes")
    for episode in rich.episodes:
        steps = episode.open(rich.lake).episode_steps(episode.episode_id)
        _, values = found[episode.episode_id]
        state = np.array(steps.column("observation.state").to_pylist())
        assert np.array_equal(np.frombuffer(b"".join(values["steps/observation/state_float64"])).reshape(-1, 3), state)
        assert np.array_equal(values["steps/observation/state"].reshape(-1, 3), state.astype(np.float32))
        assert values["steps/observation/half"].reshape(-1, 2).tolist() == steps.column("observation.half").to_pylist()
        assert [list(b) for b in values["steps/observation/grid"]] == steps.column("observation.grid").to_pylist()
        assert values["steps/observation/small"].reshape(-1, 4).tolist() == steps.column("observation.small").to_pylist()
        big = values["steps/observation/big_number"].view(np.uint64)
        assert big.tolist() == steps.column("observation.big.number").to_pylist()
        assert [n.decode() for n in values["steps/observation/note"]] == steps.column("observation.note").to_pylist()
        assert values["steps/next_success"].tolist() == steps.column("next.success").to_pylist()
        assert values["steps/observation/poses"].reshape(-1, 14).tolist() == steps.column("poses").to_pylist()
        assert values["steps/language_instruction"][0] == b""


def test_jpeg_and_png_bytes_are_the_sources(rich: ExportJob):
    found = records(rich.folder / "1.0.0")
    declared = dict(leaves(read_features(rich.folder / "1.0.0")))
    assert declared["steps/observation/front"] == Image(
        (64, 48, 3), "jpeg", doc="exterior; channels stored as BGR; the source's JPEG bytes"
    )
    assert declared["steps/observation/mask"] == Image((6, 8, 1), "png", "uint16", "segmentation; the source's PNG bytes")
    for episode in rich.episodes:
        shard, (_, values) = episode.open(rich.lake), found[episode.episode_id]
        for camera in ("front", "mask"):
            track = shard.track(episode.episode_id, camera)
            assert values[f"steps/observation/{camera}"] == [bytes(track.packet(r)) for r in range(track.info.rows)]


def test_gaps_are_black_and_marked_and_repeats_are_repeated(rich: ExportJob):
    for index, episode in enumerate(recorded(rich)):
        _, values = records(rich.folder / "1.0.0")[episode.episode_id]
        pictures, count = values["steps/observation/wrist"], len(values["steps/is_first"])
        assert values["steps/observation/has_wrist"].tolist() == [1, 1, 0] + [1] * (count - 3)
        assert simplejpeg.decode_jpeg(pictures[2]).max() == 0
        assert pictures[-1] == pictures[-2] == pictures[-3]
        assert read_barcode(simplejpeg.decode_jpeg(pictures[-1])) == 100 * index + count - 3


def test_metadata_and_padding_actions(rich: ExportJob):
    folder = rich.folder / "1.0.0"
    found = records(folder)
    values = [found[e.episode_id][1] for e in recorded(rich)]
    assert [v["episode_metadata/success"].tolist() for v in values] == [[-1], [0], [1]]
    assert values[0]["episode_metadata/license"] == [b"CC-BY-4.0"]
    assert values[0]["episode_metadata/fps"].tolist() == [10.0]
    assert json.loads(values[2]["episode_metadata/json"][0])["notes"] == ["a note"]
    assert [v["steps/is_terminal"].sum() for v in values] == [0, 1, 0]
    train = [len(v["steps/is_first"]) for split, v in found.values() if split == "train"]
    said = json.loads((folder / "dataset_statistics.json").read_text())
    rows = [v["steps/action"].reshape(-1, 2)[:-1] for split, v in found.values() if split == "train"]
    assert said["num_transitions"] == sum(train)
    np.testing.assert_allclose(said["action"]["max"], np.concatenate(rows).max(0))
    assert "observation/poses" not in said


def test_privileged_things_stay_at_home(rich: ExportJob, tmp_path: Path):
    options = replace(rich.options, privileged=False, version="2.0.1")
    episodes = tuple(replace(e, split="train") for e in rich.episodes)
    RldsExporter().export(replace(rich, episodes=episodes, folder=tmp_path, options=options))
    names = set(dict(leaves(read_features(tmp_path / "2.0.1"))))
    assert "steps/observation/front" in names
    assert not names & {"steps/observation/mask", "steps/observation/poses", "steps/observation/ghost"}
    val = DatasetInfo.read(tmp_path / "2.0.1").split("val")
    assert (val.records, val.shard_lengths) == (0, ())
    assert list(check_export(tmp_path / "2.0.1")) == []


def test_the_same_job_gives_the_same_bytes(toy: ExportJob, tmp_path: Path):
    RldsExporter().export(replace(toy, folder=tmp_path))
    for path in (p for p in toy.folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(toy.folder)).read_bytes(), path.name


def test_the_card_names_what_trainers_need(rich: ExportJob):
    text = (rich.folder / "README.md").read_text()
    assert 'name="rich_v1_0"' in text
    assert "{'primary': 'front', 'secondary': None, 'wrist': 'wrist'}" in text
    assert "padding, left out of the statistics" in text


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-20] ^= 1
    path.write_bytes(raw)


def test_damage_is_found_without_tensorflow(toy: ExportJob, tmp_path: Path):
    job = replace(toy, folder=tmp_path)
    RldsExporter().export(job)
    folder = tmp_path / "1.0.0"
    shard = next(folder.glob("*-train.tfrecord-00000-*"))
    damage(shard)
    report = RldsExporter().verify(tmp_path, job)
    assert not report.ok
    assert f"{shard.name}: the record at byte 0 is damaged" in report.differences[0]
    shard.unlink()
    assert any(f"{shard.name} does not exist" in d for d in check_export(folder))


def test_a_wrong_count_is_found(toy: ExportJob, tmp_path: Path):
    RldsExporter().export(replace(toy, folder=tmp_path))
    info = tmp_path / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"1"', '"2"'))
    assert any("dataset_info.json says 2" in d for d in check_export(tmp_path / "1.0.0"))


def test_impossible_jobs_say_why(toy: ExportJob, tmp_path: Path):
    with pytest.raises(UsageError, match="three numbers"):
        RldsExporter().export(replace(toy, folder=tmp_path, options=replace(toy.options, version="1.0")))
    twin = replace(toy.contract, features=(*toy.contract.features, Feature("state", "float32", (4,))))
    with pytest.raises(ContractError, match=r"'steps/observation/state' in RLDS; rename one"):
        RldsExporter().export(replace(toy, folder=tmp_path / "b", contract=twin))


def test_a_broken_picture_stops_the_export_and_is_named(lake: Lake, tmp_path: Path):
    job = job_of(lake, ToySource(lengths=(12, 9)), tmp_path / "out")
    path = Path(lake.shard("toy", job.episodes[0].shard, "packets"))
    track = job.episodes[0].open(lake).track(job.episodes[0].episode_id, "front")
    packet = bytes(track.packet(4))
    path.write_bytes(path.read_bytes().replace(packet, bytes(len(packet))))
    with pytest.raises(CorruptMediaError, match="camera front"):
        RldsExporter().export(job)
    assert not (job.folder / "1.0.0" / "dataset_info.json").exists()


def test_runs_start_at_keyframes(toy: ExportJob):
    episode = toy.episodes[0]
    track = episode.open(toy.lake).track(episode.episode_id, "front")
    frames = np.arange(track.info.frames)
    assert np.concatenate(list(runs(track, frames))).tolist() == frames.tolist()
    few = list(runs(track, frames[1::2]))
    assert np.concatenate(few).tolist() == frames[1::2].tolist()


def test_long_groups_of_pictures_are_cut(toy: ExportJob, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipelines.exporters.rlds.pictures.RUN_BYTES", 64 * 64 * 3 * 2)
    monkeypatch.setattr("pipelines.exporters.rlds.pictures.MOST_BYTES", 64 * 64 * 3 * 3)
    episode = toy.episodes[0]
    track = episode.open(toy.lake).track(episode.episode_id, "front")
    assert [len(r) for r in runs(track, np.arange(9))] == [3, 3, 2, 1]


def test_the_registry_knows_it():
    assert EXPORTERS.load("rlds") is RldsExporter
