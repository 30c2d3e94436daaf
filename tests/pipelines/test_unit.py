"""The unit loop: every row of the crash table, quarantine, the stop limit, and both executors."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines import unit as unit_module
from pipelines.executors import Execution
from pipelines.publish import PublishedFile, is_intact, publish_bytes
from pipelines.unit import Output, Reject, Unit, execute, run_stage
from schemas.errors import CorruptMediaError, RejectLimitError
from tests.support.toys import LENGTHS, ToySource, ingest_toy

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("crash", ["before_receipt", "before_commit", "between_tables", "before_marker"])
def test_a_crash_anywhere_leaves_no_duplicate_and_no_gap(stage: Counting, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    append = Catalog.append
    with monkeypatch.context() as patch:
        if crash == "before_receipt":
            patch.setattr(unit_module, "_write_receipt", kill)
        elif crash == "before_commit":
            patch.setattr(unit_module, "_commit", kill)
        else:
            table = "shards" if crash == "between_tables" else "runs"
            patch.setattr(Catalog, "append", lambda s, t, r, u: kill() if t == table else append(s, t, r, u))
        with pytest.raises(Killed):
            execute(stage, stage.plan()[0], "run-1")
    report = run_stage(stage, execution=Execution(workers=0))
    assert uris(stage.lake) == [f"shards/u-{i}.bin" for i in range(4)]
    redone = 2 if crash == "before_receipt" else 1
    assert stage.worked().count(0) == redone
    assert report.count("recovered") == (0 if crash == "before_receipt" else 1)
    assert not list(Path(stage.lake.root).glob("receipts/*"))


def test_a_receipt_whose_file_was_damaged_is_not_believed(stage: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(unit_module, "_commit", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            execute(stage, stage.plan()[0], "run-1")
    Path(stage.lake.root, "shards/u-0.bin").write_bytes(b"damaged")
    run_stage(stage, execution=Execution(workers=0))
    assert stage.worked().count(0) == 2
    assert Path(stage.lake.root, "shards/u-0.bin").read_bytes() == b"content 0"


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
    report = run_stage(stage, execution=Execution(workers=2, timeout_s=8))
    assert (report.count("done"), report.count("failed")) == (2, 2)
    reasons = " ".join(Catalog(lake).latest("quarantine").collect()["message"])
    assert "died" in reasons
    assert "longer than 8" in reasons


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


def test_kill_9_during_ingest_then_again(lake: Lake) -> None:
    """A real SIGKILL at several moments of a real ingest; the rerun has every episode exactly once."""
    code = (
        "import sys\nfrom catalog.lake import Lake\nfrom tests.support.toys import *\n"
        "ingest_toy(Lake.at(sys.argv[1]), ToySource(lengths=LENGTHS * 2, per_group=1))"
    )
    for delay in (1.2, 1.6, 2.0):
        run = subprocess.Popen([sys.executable, "-c", code, lake.root], cwd=ROOT)
        time.sleep(delay)
        run.kill()
        run.wait()
    ingest_toy(lake, ToySource(lengths=LENGTHS * 2, per_group=1))
    rows = Catalog(lake).scan("episodes").collect()
    assert rows.height == rows["episode_id"].n_unique() == 8
    assert rows["steps"].sum() == 2 * sum(LENGTHS)
    shards = Catalog(lake).scan("shards").collect()
    assert all(is_intact(lake, PublishedFile(*r)) for r in shards.select("uri", "bytes", "blake3").iter_rows())
    assert shards.filter(pl.col("kind") == "packets").height == 8


def test_rejects_carry_the_notes_gathered_on_the_way_up() -> None:
    error = CorruptMediaError("cannot decode", uri="a.mp4")
    error.add_note("camera front")
    assert Reject.of(error, "ep 3").message == "cannot decode (camera front)"
