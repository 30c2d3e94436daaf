"""The lake against its catalog: a missing file and a flipped byte are both found, and only they."""

from pathlib import Path

import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.integrity import verify_lake
from pipelines.unit import run_stage
from pipelines.upkeep.needed import needed_files
from tests.support.toys import ToySource, ingest_toy


def test_an_untouched_lake_is_intact(lake: Lake) -> None:
    ingest_toy(lake)
    told: list[tuple[int, int]] = []
    report = verify_lake(lake, lambda done, total: told.append((done, total)))
    assert report.ok
    assert report.files == len(needed_files(lake)) == 6
    assert told[-1] == (6, 6)


def test_damage_and_loss_are_found(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    ingest_toy(lake)
    lost, flipped = sorted(Path(lake.root).glob("shards/toy/*.packets.arrow"))
    lost.unlink()
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    report = verify_lake(lake)
    assert report.missing == (str(lost.relative_to(lake.root)),)
    assert report.damaged == (str(flipped.relative_to(lake.root)),)
    assert run(["verify", "lake", "--lake", lake.root]) == 1
    assert "1 missing, 1 damaged" in capsys.readouterr().out


def test_repair_makes_the_same_files_again_and_no_rows(lake: Lake) -> None:
    ingest_toy(lake)
    lost, flipped = sorted(Path(lake.root).glob("shards/toy/*.packets.arrow"))
    lost.unlink()
    flipped.write_bytes(b"damaged")
    rows = Catalog(lake).scan("episodes").collect().height
    stage = IngestStage(lake, ToySource())
    assert run_stage(stage, execution=Execution(workers=0)).worked == 0
    assert run_stage(stage, execution=Execution(workers=0), repair=True).worked == 2
    assert verify_lake(lake).ok
    assert Catalog(lake).scan("episodes").collect().height == rows
    assert run_stage(stage, execution=Execution(workers=0), repair=True).worked == 0
