"""Recordings become episodes byte for byte; a damaged one is rejected with its file and cause, and hides no other."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.record import record as recorder
from pipelines.record.record import record
from pipelines.shards.draft import EpisodeDraft
from pipelines.shards.reader import open_shard
from pipelines.sources.base import SourceOptions
from pipelines.sources.recording import RecordingSource
from pipelines.sources.registry import open_source
from pipelines.unit import Reject, run_stage
from schemas.errors import MalformedSourceError, MissingFileError
from tests.contracts.source import SourceContract
from tests.support.toy_simulator import TARGET, ToySimulator, toy_spec
from tests.support.video import read_barcode


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(recorder.SIMULATORS.known, "toy", TARGET)
    record(toy_spec(), tmp_path / "recording", workers=0)
    return tmp_path / "recording"


class TestContract(SourceContract):
    @pytest.fixture
    def source(self, folder: Path) -> RecordingSource:
        return source(folder, shard_bytes=1)


def source(folder: Path, **options: Any) -> RecordingSource:
    return RecordingSource(str(folder), SourceOptions("sim", **options))


def read_all(adapter: RecordingSource) -> dict[str, EpisodeDraft | Reject]:
    return {item.key: item for group in adapter.groups() for item in adapter.read(group)}


def edit(folder: Path, key: str, change: dict[str, Any]) -> None:
    path = folder / "episodes" / key / "episode.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_recording_is_recognised(folder: Path, tmp_path: Path) -> None:
    adapter = open_source(str(folder), SourceOptions("sim"))
    assert isinstance(adapter, RecordingSource)
    assert not RecordingSource.recognises(str(tmp_path))
    assert not RecordingSource.recognises(str(folder / "recording.json"))
    (folder / "recording.json").write_text("{}")
    assert not RecordingSource.recognises(str(folder))
    with pytest.raises(MalformedSourceError, match=r"recording\.json"):
        source(folder).contract()
    (folder / "recording.json").unlink()
    with pytest.raises(MissingFileError, match=r"recording\.json"):
        source(folder).contract()


def test_the_contract_is_the_recorded_one_under_the_users_name(folder: Path) -> None:
    plain = source(folder).contract()
    assert (plain.dataset, plain.licence, plain.embodiment, plain.split_keys) == ("sim", "MIT", "toy_arm", ("task", "scene"))
    told = source(
        folder, licence="CC0-1.0", contract={"embodiment": "other_arm", "cameras": {"front": {"role": "ego"}}}
    ).contract()
    assert (told.licence, told.embodiment, told.cameras[0].role) == ("CC0-1.0", "other_arm", "ego")


def test_video_packets_are_copied(folder: Path) -> None:
    draft = read_all(source(folder))["stack-1"]
    assert isinstance(draft, EpisodeDraft)
    with av.open(str(folder / "episodes" / "stack-1" / "wrist.mp4")) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    track = next(t for t in draft.tracks if t.camera == "wrist")
    assert track.data == packets
    assert track.times_ns().tolist() == draft.steps.column("t_ns").to_pylist()
    assert track.key[0]
    assert np.diff(np.flatnonzero(track.key)).max() <= 8


def test_everything_arrives_in_the_lake(folder: Path, lake: Lake) -> None:
    report = run_stage(IngestStage(lake, source(folder), check="all"))
    assert report.rejects == ()
    rows = Catalog(lake).latest("episodes").collect().sort("key").to_dicts()
    assert [r["key"] for r in rows] == ["stack-0", "stack-1", "stack-2"]
    assert [r["success"] for r in rows] == [True, True, False]
    assert [r["split_group"] for r in rows] == [f"toy/stack/{i}" for i in range(3)]
    assert [r["source"] for r in rows] == ["sim"] * 3
    assert json.loads(rows[1]["attributes"])["segments"] == {"0": "background", "1": "thing"}
    for scene, row in enumerate(rows):
        shard, name, made = open_shard(lake, "sim", row["shard"]), row["episode_id"], ToySimulator(toy_spec()).run("stack", scene)
        steps = shard.episode_steps(name)
        assert [read_barcode(f) for f in shard.read(name, "wrist", range(12))] == [100 * scene + n + 50 for n in range(12)]
        np.testing.assert_array_equal(np.stack(steps.column("observation.state").to_pylist()), made.columns["observation.state"])
        np.testing.assert_array_equal(steps.column("action").to_numpy(), made.columns["action"][:, 0])
        np.testing.assert_array_equal(steps.column("reward").to_numpy(), made.reward)
        assert steps.column("is_terminal").to_pylist() == [False] * 11 + [scene != 2]
        assert set(steps.column("language").to_pylist()) == {"please stack"}
        seen = steps.column("frame.segmentation.front").to_numpy()
        assert seen.tolist() == [n // 4 if n % 4 == 0 else -1 for n in range(12)]
        masks = made.masks["segmentation.front"]
        np.testing.assert_array_equal(shard.read_masks(name, "segmentation.front", seen[masks.steps]), masks.images)
        assert shard.track(name, "segmentation.front").pts_ns.tolist() == made.t_ns[masks.steps].tolist()
        streams = shard.episode_streams(name)
        np.testing.assert_array_equal(np.stack(streams.column("values").to_pylist()), made.streams[0].values)


def test_ingesting_twice_does_nothing_and_new_episodes_are_new_units(folder: Path, lake: Lake) -> None:
    adapter = source(folder, shard_bytes=1)
    stage, here = IngestStage(lake, adapter), Execution(workers=0)
    assert run_stage(stage, execution=here).count("done") == 3
    assert run_stage(stage, execution=here).count("skipped") == 3
    record(toy_spec(episodes=4), folder, workers=0)
    report = run_stage(stage, execution=here)
    assert (report.count("skipped"), report.count("done")) == (3, 1)


def test_groups_keep_to_the_shard_size_and_know_their_bytes(folder: Path) -> None:
    assert [g.episodes for g in source(folder).groups()] == [3]
    single = source(folder, shard_bytes=1).groups()
    assert [g.label for g in single] == ["stack-0", "stack-1", "stack-2"]
    size = sum(p.stat().st_size for p in (folder / "episodes" / "stack-0").rglob("*") if p.is_file())
    assert single[0].bytes == size
    assert [g.episodes for g in source(folder, shard_bytes=2 * size + size // 2).groups()] == [2, 1]


def test_any_changed_byte_changes_the_inputs(folder: Path) -> None:
    before = source(folder).groups()[0].inputs
    mask = next((folder / "episodes" / "stack-1" / "segmentation.front").iterdir())
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert source(folder).groups()[0].inputs != before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "error"),
    [
        ("front.mp4", flip, "CorruptMediaError"),
        ("steps.parquet", flip, "CorruptMediaError"),
        ("front.mp4", lambda p: p.write_bytes(p.read_bytes()[:900]), "CorruptMediaError"),
        ("steps.parquet", Path.unlink, "MissingFileError"),
        ("segmentation.front/000000000000000.png", Path.unlink, "MissingFileError"),
        ("episode.json", Path.unlink, "MissingFileError"),
        ("episode.json", lambda p: p.write_text("{}"), "MalformedSourceError"),
    ],
)
def test_a_damaged_episode_is_rejected_and_the_others_are_kept(folder: Path, name: str, damage: Any, error: str) -> None:
    damage(folder / "episodes" / "stack-1" / name)
    items = read_all(source(folder))
    reject = items.pop("stack-1")
    assert isinstance(reject, Reject)
    assert reject.error == error
    assert name in reject.message
    assert all(isinstance(item, EpisodeDraft) for item in items.values())
    assert len(items) == 2


def test_a_table_shorter_than_its_facts_is_rejected(folder: Path) -> None:
    edit(folder, "stack-0", {"steps": 13})
    reject = read_all(source(folder))["stack-0"]
    assert isinstance(reject, Reject)
    assert (reject.error, "12 steps" in reject.message) == ("LengthMismatchError", True)


def test_a_file_name_may_not_leave_the_episode(folder: Path) -> None:
    secret = folder.parent / "secret.png"
    secret.write_bytes(b"x")
    edit(folder, "stack-0", {"files": {"../../../secret.png": {"bytes": 1, "blake3": "0"}}})
    reject = read_all(source(folder))["stack-0"]
    assert isinstance(reject, Reject)
    assert reject.error == "UnsafePathError"


def test_a_broken_episode_ends_in_quarantine(folder: Path, lake: Lake) -> None:
    flip(folder / "episodes" / "stack-0" / "front.mp4")
    report = run_stage(IngestStage(lake, source(folder)))
    quarantine = Catalog(lake).latest("quarantine").collect().to_dicts()
    assert report.total("rows") == 24
    assert [(q["key"], q["error"]) for q in quarantine] == [("stack-0", "CorruptMediaError")]
    assert "front.mp4" in quarantine[0]["message"]
