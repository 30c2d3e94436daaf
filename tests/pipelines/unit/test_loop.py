"""The unit loop: reruns, quarantine, the stop limit, and both executors. What happens when it is killed: `test_crash.py`."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.publish import publish_bytes
from pipelines.unit import Output, Reject, Unit, run_stage
from schemas.errors import CorruptMediaError, RejectLimitError
from tests.support.toys import ToySource, ingest_toy


@dataclass(frozen=True)
class Counting:
    """A stage of `count` units that logs each time it really works."""

    lake: Lake
    log: Path
    count: int = 4
    bad: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    sleeps: tuple[int, ...] = ()
    raises: tuple[int, ...] = ()
    name: str = "counting"

    def plan(self) -> list[Unit]:
        return [Unit(f"u-{i}", self.name, "toy", f"unit {i}", i, 1, 1) for i in range(self.count)]

    def work(self, unit: Unit) -> Output:
        with self.log.open("a") as file:
            file.write(f"{unit.payload}\n")
        if unit.payload in self.bad:
            raise CorruptMediaError("file.mp4: broken", uri="file.mp4")
        if unit.payload in self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if unit.payload in self.sleeps:
            time.sleep(60)
        if unit.payload in self.raises:
            raise ZeroDivisionError("a bug")
        path = self.lake.path("shards", f"{unit.id}.bin")
        made = publish_bytes(self.lake, f"content {unit.payload}".encode(), path)
        return Output((made,), {"shards": pa.table({"uri": [made.path], "blake3": [made.blake3]})}, rows=1)

    def worked(self) -> list[int]:
        return sorted(map(int, self.log.read_text().split())) if self.log.exists() else []


@pytest.fixture
def stage(lake: Lake, tmp_path: Path) -> Counting:
    return Counting(lake, tmp_path / "log")


def uris(lake: Lake) -> list[str]:
    return sorted(Catalog(lake).scan("shards").collect()["uri"].to_list())


def test_a_rerun_does_no_work(stage: Counting) -> None:
    first, second = run_stage(stage, execution=Execution(workers=0)), run_stage(stage, execution=Execution(workers=0))
    assert (first.count("done"), second.count("skipped"), second.worked) == (4, 4, 0)
    assert stage.worked() == [0, 1, 2, 3]


def test_limit_takes_the_same_units_every_time(stage: Counting) -> None:
    run_stage(stage, limit=2, execution=Execution(workers=0))
    run_stage(stage, limit=2, execution=Execution(workers=0))
    assert stage.worked() == [0, 1]


def test_bad_input_is_quarantined_once_and_the_rest_is_done(lake: Lake, tmp_path: Path) -> None:
    stage = Counting(lake, tmp_path / "log", bad=(1,))
    for _ in range(2):
        run_stage(stage, execution=Execution(workers=0))
    rows = Catalog(lake).latest("quarantine").collect()
    assert rows.select("key", "uri", "error", "message").rows() == [
        ("unit 1", "file.mp4", "CorruptMediaError", "file.mp4: broken"),
    ]
    assert stage.worked() == [0, 1, 2, 3]
    assert len(uris(lake)) == 3


def test_a_bug_is_quarantined_but_tried_again(lake: Lake, tmp_path: Path) -> None:
    report = run_stage(Counting(lake, tmp_path / "log", raises=(2,)), execution=Execution(workers=0))
    assert report.count("failed") == 1
    healed = Counting(lake, tmp_path / "log")
    assert run_stage(healed, execution=Execution(workers=0)).count("done") == 1
    assert len(uris(lake)) == 4


def test_too_many_rejects_stop_the_run(lake: Lake, tmp_path: Path) -> None:
    stage = Counting(lake, tmp_path / "log", count=60, bad=tuple(range(0, 60, 2)))
    with pytest.raises(RejectLimitError, match="more than 20%"):
        run_stage(stage, execution=Execution(workers=0))
    assert 20 <= len(stage.worked()) < 60


def test_worker_processes_survive_a_dying_and_a_hanging_unit(lake: Lake, tmp_path: Path) -> None:
    stage = Counting(lake, tmp_path / "log", dies=(0,), sleeps=(1,))
    report = run_stage(stage, execution=Execution(workers=2, timeout_s=15))
    assert (report.count("done"), report.count("failed")) == (2, 2)
    reasons = " ".join(Catalog(lake).latest("quarantine").collect()["message"])
    assert "died" in reasons
    assert "longer than 15" in reasons


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_dask_gives_the_same_lake_byte_for_byte(lake: Lake, tmp_path: Path) -> None:
    other = Lake.at(tmp_path / "dask")
    ingest_toy(lake)
    from pipelines.ingest import IngestStage

    run_stage(IngestStage(other, ToySource()), execution=Execution("dask", workers=1))

    def seals(where: Lake) -> list[tuple]:
        return Catalog(where).latest("shards").select("uri", "blake3").collect().rows()

    assert seals(lake) == seals(other)
    assert len(seals(lake)) == 6


def test_rejects_carry_the_notes_gathered_on_the_way_up() -> None:
    error = CorruptMediaError("cannot decode", uri="a.mp4")
    error.add_note("camera front")
    assert Reject.of(error, "ep 3").message == "cannot decode (camera front)"
