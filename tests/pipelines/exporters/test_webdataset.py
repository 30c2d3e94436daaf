"""WebDataset exports, read here with `tarfile`, numpy and the `webdataset` package, none of it through our own readers."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import webdataset

from catalog.lake import Lake
from pipelines.exporters.base import ExportEpisode, ExportJob, ExportOptions
from pipelines.exporters.registry import EXPORTERS
from pipelines.exporters.webdataset import WebDatasetExporter
from pipelines.exporters.webdataset import verify as verifying
from schemas.contract import Feature
from schemas.errors import ContractError, CorruptMediaError, UsageError, VerificationError
from tests.pipelines.exporters.rich import LENGTHS as RICH_LENGTHS
from tests.pipelines.exporters.rich import RichSource, exported_toys, job_of
from tests.support.toys import LENGTHS, ToySource
from tests.support.video import read_barcode


def info_of(job: ExportJob) -> dict[str, Any]:
    return json.loads((job.folder / "dataset.json").read_text())


def members(job: ExportJob) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """Every file of every shard: shard, header, content."""
    for shard in info_of(job)["shards"]:
        with tarfile.open(job.folder / shard["file"]) as tar:
            for entry in tar:
                stream = tar.extractfile(entry)
                assert stream is not None
                yield shard["file"], entry, stream.read()


def samples(job: ExportJob) -> dict[str, dict[str, Any]]:
    """Every sample by key: pictures as bytes, arrays, json as a dict, and the shard it is in."""
    found: dict[str, dict[str, Any]] = {}
    for shard, entry, data in members(job):
        key, _, name = entry.name.partition(".")
        sample = found.setdefault(key, {"shard": shard})
        assert name not in sample
        decode = {"npy": lambda raw: np.load(io.BytesIO(raw), allow_pickle=False), "json": json.loads}.get(
            name.rsplit(".", 1)[-1]
        )
        sample[name] = decode(data) if decode else data
    return found


def steps_of(job: ExportJob) -> Iterator[tuple[ExportEpisode, int, int, dict[str, Any]]]:
    """Every step of the job with its row of the lake: episode, its index, step, row."""
    for index, episode in enumerate(job.episodes):
        for step, row in enumerate(episode.open(job.lake).episode_steps(episode.episode_id).to_pylist()):
            yield episode, index, step, row


def copy_of(job: ExportJob, folder: Path) -> ExportJob:
    """Return the job with its export copied to `folder`, to be damaged there."""
    folder.mkdir()
    for path in job.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return replace(job, folder=folder)


def rewrite(job: ExportJob, change: Any) -> None:
    """Rewrite the first shard member by member as `change(name, data)` says, and list its new hash."""
    from blake3 import blake3

    path = job.folder / info_of(job)["shards"][0]["file"]
    with tarfile.open(path) as tar:
        old = [(e.name, tar.extractfile(e).read()) for e in tar]  # pyright: ignore[reportOptionalMemberAccess]
    with tarfile.open(path, "w") as tar:
        for name, data in old:
            for new_name, new_data in change(name, data):
                entry = tarfile.TarInfo(new_name)
                entry.size = len(new_data)
                tar.addfile(entry, io.BytesIO(new_data))
    said = info_of(job)
    said["shards"][0]["blake3"] = blake3(path.read_bytes()).hexdigest()
    (job.folder / "dataset.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ExportJob:
    return exported_toys(WebDatasetExporter(), tmp_path_factory.mktemp("toy"), rlds_mb=0.06, part_mb=0.001)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> ExportJob:
    root = tmp_path_factory.mktemp("rich")
    job = job_of(Lake.at(root / "lake"), RichSource(), root / "out" / "rich-v1.0", privileged=True, val_share=0.5)
    report = WebDatasetExporter().export(job)
    assert (report.copied, report.transcoded) == (2 * sum(RICH_LENGTHS), sum(RICH_LENGTHS) - len(RICH_LENGTHS))
    assert list(report.notes[:2]) == [
        "3 steps have no picture of camera wrist: black, named in `missing`",
        "camera ghost has no picture in any episode and is left out",
    ]
    return job


def test_every_step_equals_the_lake(toy: ExportJob):
    found = samples(toy)
    assert len(found) == sum(LENGTHS)
    for episode, index, step, row in steps_of(toy):
        sample = found[f"{index:06d}_{step:06d}"]
        assert set(sample) == {"shard", "front.jpg", "wrist.jpg", "observation.state.npy", "action.npy", "json"}
        for name in ("observation.state", "action"):
            assert sample[f"{name}.npy"].dtype == np.float32
            assert sample[f"{name}.npy"].tolist() == row[name]
        said, texts = sample["json"], {}
        if index == 0 and step >= 2:
            texts = {"motion": "move left" if step < 6 else "move right"}
        assert said == {
            "dataset": "toy", "episode_id": episode.episode_id, "episode_index": index, "split": episode.split, "licence": "Apache-2.0",
            "step": step, "t_ns": row["t_ns"], "language": row["language"], "texts": texts, "reward": None, "discount": row["discount"],
            "is_first": step == 0, "is_last": row["is_last"], "is_terminal": False, "values": {}, "missing": [],
        }  # fmt: skip
        for camera, shift in (("front", 0), ("wrist", 1000)):
            assert read_barcode(simplejpeg.decode_jpeg(sample[f"{camera}.jpg"])) == int(row["observation.state"][0]) + shift


def test_shards_are_numbered_per_split_and_close_at_their_size(toy: ExportJob):
    info, found = info_of(toy), samples(toy)
    for split in ("train", "val"):
        shards = [s for s in info["shards"] if s["split"] == split]
        assert [s["file"] for s in shards] == [f"toy-{split}-{n:06d}.tar" for n in range(len(shards))]
        assert info["splits"][split]["shards"] == len(shards) > 0
        assert info["splits"][split]["samples"] == sum(s["samples"] for s in shards)
    assert info["splits"]["train"]["shards"] > sum(e.split == "train" for e in toy.episodes), "no part rolled over"
    counts = Counter(s["shard"] for s in found.values())
    for shard in info["shards"]:
        keys = [key for key, s in found.items() if s["shard"] == shard["file"]]
        assert (shard["samples"], shard["first"], shard["last"]) == (counts[shard["file"]], keys[0], keys[-1])
        assert keys == sorted(keys)
        size = (toy.folder / shard["file"]).stat().st_size
        assert shard["bytes"] == size <= 60_000
    for episode, index, step, _ in steps_of(toy):
        assert found[f"{index:06d}_{step:06d}"]["shard"].startswith(f"toy-{episode.split}-")
    assert {p.name for p in toy.folder.iterdir()} == {"README.md", "dataset.json", *(s["file"] for s in info["shards"])}


def test_a_sample_larger_than_a_shard_gets_one_of_its_own(toy: ExportJob, tmp_path: Path):
    tight = replace(toy, folder=tmp_path, options=replace(toy.options, rlds_mb=0.001))
    WebDatasetExporter().export(tight)
    assert {s["samples"] for s in info_of(tight)["shards"]} == {1}


def test_bytes_depend_on_nothing_but_the_samples(toy: ExportJob, tmp_path: Path):
    for _, entry, _ in members(toy):
        assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode) == (0, 0, 0, "", "", 0o444)
    mask = os.umask(0o077)
    try:
        WebDatasetExporter().export(replace(toy, folder=tmp_path))
    finally:
        os.umask(mask)
    for path in toy.folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_every_dtype_keeps_its_value(rich: ExportJob):
    found, contract = samples(rich), rich.contract
    numeric = {f.name: f for f in contract.features if f.dtype != "string"}
    assert len(numeric) == 8
    for _, index, step, row in steps_of(rich):
        sample = found[f"{index:06d}_{step:06d}"]
        for name, feature in numeric.items():
            value = sample[f"{name}.npy"]
            assert (value.dtype, value.shape) == (np.dtype(feature.dtype), feature.shape)
            assert value.reshape(-1).tolist() == np.array(row[name]).reshape(-1).tolist()
        said = sample["json"]
        assert said["values"] == {"observation.note": row["observation.note"]}
        assert said["language"] == (row["language"] or "")
        assert said["reward"] == row["reward"]
        assert said["is_terminal"] == row["is_terminal"]
        assert said["licence"] == "CC-BY-4.0"


def test_jpeg_and_png_bytes_are_the_sources_and_gaps_are_black(rich: ExportJob):
    found = samples(rich)
    for episode, index, step, row in steps_of(rich):
        sample, shard = found[f"{index:06d}_{step:06d}"], episode.open(rich.lake)
        for camera, member in (("front", "front.jpg"), ("mask", "mask.png")):
            assert sample[member] == bytes(shard.track(episode.episode_id, camera).packet(row[f"frame.{camera}"]))
        picture, number = simplejpeg.decode_jpeg(sample["wrist.jpg"]), row["frame.wrist"]
        assert sample["json"]["missing"] == (["wrist"] if number < 0 else [])
        if number < 0:
            assert picture.max() == 0
        else:
            assert read_barcode(picture) == 100 * int(episode.row["key"]) + number
        mask = cv2.imdecode(np.frombuffer(sample["mask.png"], np.uint8), cv2.IMREAD_UNCHANGED)
        assert (mask.dtype, mask.shape) == (np.uint16, (6, 8))


def test_privileged_things_stay_at_home(rich: ExportJob, tmp_path: Path):
    public = replace(rich, folder=tmp_path, options=replace(rich.options, privileged=False))
    WebDatasetExporter().export(public)
    names = {name for sample in samples(public).values() for name in sample}
    assert {"front.jpg", "observation.grid.npy"} <= names
    assert not names & {"mask.png", "poses.npy"}
    assert set(info_of(public)["features"]) == names - {"shard"}


def test_verification_reads_everything_twice(toy: ExportJob, rich: ExportJob):
    for job, cameras in ((toy, 2), (rich, 3)):
        report = WebDatasetExporter().verify(job.folder, job, every=3)
        assert report.differences == ()
        lengths = [int(e.row["steps"]) for e in job.episodes]
        assert (report.episodes, report.steps_compared) == (len(lengths), sum(lengths))
        assert report.frames_compared == cameras * sum(-(-n // 3) for n in lengths)
        assert report.reader == f"tarfile, webdataset {webdataset.__version__}"


def test_without_the_package_tarfile_reads_alone(toy: ExportJob, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verifying, "has_webdataset", lambda: False)
    report = WebDatasetExporter().verify(toy.folder, toy)
    assert (report.ok, report.reader, report.steps_compared) == (True, "tarfile", sum(LENGTHS))
    assert report.warnings == ("the package webdataset is not installed; only tarfile read the shards",)


@pytest.mark.parametrize(
    ("target", "change", "said"),
    [
        ("000000_000002.action.npy", lambda n, d: [(n, d[:-4] + b"\0\0\x80?")], "action.npy is"),
        ("000000_000002.json", lambda n, d: [(n, d.replace(b"move left", b"move back"))], "json differs in texts"),
        ("000000_000003.front.jpg", lambda n, d: [(n, d[:-2] + b"\0\0")], "front.jpg has other bytes"),
        ("000000_000002.wrist.jpg", lambda n, d: [], "pictures ['front.jpg'], expected ['front.jpg', 'wrist.jpg']"),
        ("000000_000002.json", lambda n, d: [(n, d.replace(b'"step":2', b'"step":5'))], "out of place"),
        ("000000_000002.json", lambda n, d: [(n, b"{")], "cannot be read: JSONDecodeError"),
    ],
)  # fmt: skip
def test_every_change_is_found(toy: ExportJob, tmp_path: Path, target: str, change: Any, said: str):
    job = copy_of(toy, tmp_path / "copy")
    rewrite(job, lambda name, data: change(name, data) if name == target else [(name, data)])
    report = WebDatasetExporter().verify(job.folder, job, every=1)
    assert any(said in d for d in report.differences), report.differences


def test_damage_loss_and_strays_are_found(toy: ExportJob, tmp_path: Path):
    job = copy_of(toy, tmp_path / "copy")
    first, second = (s["file"] for s in info_of(job)["shards"][:2])
    raw = bytearray((job.folder / first).read_bytes())
    raw[600] ^= 1
    (job.folder / first).write_bytes(raw)
    (job.folder / second).rename(job.folder / "stray.tar")
    report = WebDatasetExporter().verify(job.folder, job)
    assert f"{first} is damaged: its bytes are not the ones dataset.json lists" in report.differences
    assert f"{second} does not exist" in report.differences
    assert "stray.tar is not listed in dataset.json" in report.differences
    (job.folder / "dataset.json").unlink()
    with pytest.raises(VerificationError, match="export the dataset again"):
        WebDatasetExporter().verify(job.folder, job)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the package leaves its files open
def test_the_cards_snippet_runs(toy: ExportJob, monkeypatch: pytest.MonkeyPatch):
    text = (toy.folder / "README.md").read_text()
    snippet = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(toy.folder)
    names: dict[str, Any] = {}
    exec(snippet, names)
    train = {e.episode_id for e in toy.episodes if e.split == "train"}
    seen = Counter[str]()
    for front, wrist, state, action, about in names["samples"]:
        seen[about["episode_id"]] += 1
        assert (read_barcode(front), read_barcode(wrist)) == (int(state[0]), int(state[0]) + 1000)
        assert np.array_equal(action, state / 2)
    assert seen == {e.episode_id: e.row["steps"] for e in toy.episodes if e.episode_id in train}


def test_provenance_names_every_episode(toy: ExportJob):
    info = info_of(toy)
    assert info["provenance"] == {"from": "a test"}
    assert info["exporter"] == {"name": "webdataset", "version": WebDatasetExporter.version}
    assert [(e["episode_id"], e["steps"], e["split"]) for e in info["episodes"]] == [
        (e.episode_id, e.row["steps"], e.split) for e in toy.episodes
    ]
    assert info["contract"] == json.loads(toy.contract.to_json())
    assert WebDatasetExporter().commit_files(toy) == ("dataset.json",)
    assert WebDatasetExporter().tag(toy) == "1.0.0"


def test_impossible_jobs_say_why(toy: ExportJob, tmp_path: Path):
    twin = replace(toy.contract, features=(*toy.contract.features, Feature("Action", "float32", (4,))))
    with pytest.raises(ContractError, match=r"'action.npy' in WebDataset, which ignores case; rename one"):
        WebDatasetExporter().export(replace(toy, folder=tmp_path / "a", contract=twin))
    when = replace(toy.contract, features=(Feature("when", "datetime64[ns]", (1,)),))
    with pytest.raises(ContractError, match="is no number"):
        WebDatasetExporter().export(replace(toy, folder=tmp_path / "b", contract=when))
    with pytest.raises(UsageError, match="no episodes were chosen"):
        WebDatasetExporter().export(replace(toy, folder=tmp_path / "c", episodes=()))


def test_a_broken_picture_stops_the_export_and_is_named(lake: Lake, tmp_path: Path):
    job = job_of(lake, ToySource(lengths=(12, 9)), tmp_path / "out")
    path = Path(lake.shard("toy", job.episodes[0].shard, "packets"))
    packet = bytes(job.episodes[0].open(lake).track(job.episodes[0].episode_id, "front").packet(4))
    path.write_bytes(path.read_bytes().replace(packet, bytes(len(packet))))
    with pytest.raises(CorruptMediaError, match="camera front"):
        WebDatasetExporter().export(job)
    assert not (job.folder / "dataset.json").exists()


def test_a_dataset_without_held_out_episodes_says_so(toy: ExportJob, tmp_path: Path):
    episodes = tuple(replace(e, split="train") for e in toy.episodes)
    alone = replace(toy, folder=tmp_path, episodes=episodes, options=ExportOptions())
    report = WebDatasetExporter().export(alone)
    assert "all episodes are in train: there is no val shard" in report.notes
    assert info_of(alone)["splits"]["val"] == {"episodes": 0, "samples": 0, "shards": 0, "bytes": 0}
    assert WebDatasetExporter().verify(tmp_path, alone).ok


def test_a_resampled_episode_is_verified_on_its_grid(rich: ExportJob, tmp_path: Path):
    episodes = tuple(replace(e, grid_fps=5) for e in rich.episodes)  # recorded at 10 Hz
    job = replace(rich, folder=tmp_path, episodes=episodes)
    halves = sum(-(-int(e.row["steps"]) // 2) for e in rich.episodes)
    assert WebDatasetExporter().export(job).rows == halves < sum(RICH_LENGTHS)
    report = WebDatasetExporter().verify(tmp_path, job, every=2)
    assert (report.differences, report.steps_compared) == ((), halves)


def test_the_registry_knows_it():
    assert EXPORTERS.load("webdataset") is WebDatasetExporter
