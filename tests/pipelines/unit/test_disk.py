"""Faults of the disk: full, read-only, files too large, shards cut short or changed. An error that says so, and a lake that verifies."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.integrity import verify_lake
from pipelines.shards.reader import open_shard
from pipelines.sweep import sweep
from pipelines.unit import run_stage
from schemas.errors import CotrainError, LakeError
from tests.support.crash_stage import CrashStage, contents
from tests.support.forker import Forker
from tests.support.toys import ToySource, ingest_toy

SOURCE = ToySource(lengths=(12,) * 4, per_group=1)


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own that can be filled, made larger and made read-only."""

    path: Path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Needs the right to mount, as in most containers; CI without it skips."""
    path = tmp_path / "small"
    path.mkdir()
    try:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(path)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip("this user may not mount a small file system")
    yield SmallDisk(path)
    subprocess.run(["umount", "-l", str(path)], check=True, capture_output=True)


def test_a_full_disk_is_told_and_a_rerun_with_space_finishes(disk: SmallDisk) -> None:
    lake = Lake.at(disk.path / "lake")
    with pytest.raises(LakeError, match=r"No space left on device; free some space"):
        ingest_toy(lake, SOURCE)
    assert Catalog(lake).scan("quarantine").collect().is_empty(), "the input is not at fault"
    disk.remount("size=32m")
    ingest_toy(lake, SOURCE)
    sweep(lake, older_than_s=-60)
    assert sorted(Catalog(lake).scan("episodes").collect()["key"]) == ["0", "1", "2", "3"]
    assert verify_lake(lake).ok
    assert verify_lake(lake).files == 12


def test_a_read_only_lake_is_told_and_still_reads(disk: SmallDisk) -> None:
    disk.remount("size=32m")
    lake = Lake.at(disk.path / "lake")
    ingest_toy(lake, SOURCE)
    disk.remount("ro")
    try:
        assert ingest_toy(lake, SOURCE).worked == 0, "nothing to do is nothing to write"
        with pytest.raises(LakeError, match="Read-only file system; mount it writable"):
            ingest_toy(lake, ToySource(lengths=(5,)))
        assert verify_lake(lake).ok
    finally:
        disk.remount("rw")


def test_files_that_may_not_grow_are_told_and_lose_nothing(lake: Lake, tmp_path: Path) -> None:
    """`ulimit -f`: every write beyond the limit fails, in Python, in Arrow and in delta-rs alike; no right to mount is needed."""
    Path(lake.root).mkdir()
    with Forker() as forker:
        whole = Lake.at(tmp_path / "whole")
        assert forker.run(("tests.support.crash_stage:run_once", whole.root, 3)) == [0]
        for most in (400, 5000):
            assert forker.run(("tests.support.crash_stage:run_limited", lake.root, 3, most)) == [7]
            assert "File too large" in (Path(lake.root) / "told").read_text()
        (Path(lake.root) / "told").unlink()
        assert forker.run(("tests.support.crash_stage:run_once", lake.root, 3)) == [0]
    sweep(lake, older_than_s=-60)
    assert contents(lake) == contents(whole)


def test_a_folder_without_the_right_to_write(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The super-user may write anywhere, so the refusal is made here, by the call that a user's would come from."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(LakeError, match="Permission denied; give this user the right"):
            run_stage(CrashStage(lake, 1), execution=Execution(workers=0))
    assert run_stage(CrashStage(lake, 1), execution=Execution(workers=0)).count("done") == 1


@pytest.mark.parametrize("kind", ["steps", "packets", "streams"])
@pytest.mark.parametrize("damage", ["cut in half", "empty", "one bit"])
def test_a_damaged_shard_is_found_and_mended(lake: Lake, kind: str, damage: str) -> None:
    source = ToySource(lengths=(6,))
    ingest_toy(lake, source)
    (path,) = Path(lake.root).glob(f"shards/toy/*.{kind}.arrow")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 4
    path.write_bytes({"cut in half": whole[: len(whole) // 2], "empty": b"", "one bit": bytes(flipped)}[damage])
    assert verify_lake(lake).damaged == (str(path.relative_to(lake.root)),)
    if damage != "one bit" and kind != "streams":
        row = Catalog(lake).latest("episodes").collect().row(0, named=True)
        with pytest.raises(CotrainError, match=row["shard"]):
            open_shard(lake, "toy", row["shard"]).read(row["episode_id"], "front", [0])
    stage = IngestStage(lake, source)
    assert run_stage(stage, execution=Execution(workers=0)).worked == 0
    assert run_stage(stage, execution=Execution(workers=0), repair=True).worked == 1
    assert verify_lake(lake).ok
    assert path.read_bytes() == whole


def test_a_sample_finds_damage_in_proportion(lake: Lake) -> None:
    ingest_toy(lake, ToySource(lengths=(3,) * 16, per_group=1))
    every = verify_lake(lake).files
    assert every == 48
    looked = [verify_lake(lake, sample=0.25, seed=seed).files for seed in range(4)]
    assert all(2 <= n <= 30 for n in looked)
    assert len(set(looked)) > 1
    assert looked[0] == verify_lake(lake, sample=0.25).files, "the same seed, the same files"
    for path in Path(lake.root).glob("shards/toy/*.packets.arrow"):
        path.write_bytes(b"damaged")
    assert 0 < len(verify_lake(lake, sample=0.5).damaged) < 16
