"""The Dask executor on one shared cluster: equal lakes, killed workers, GPUs, versions, a scheduler that is not there."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.executors import Execution, cluster
from pipelines.executors.versions import check_same, versions
from pipelines.ingest import IngestStage
from pipelines.unit import Stage, StageReport, run_stage
from schemas.errors import TransportError, UsageError
from tests.support.dask_stages import Telling, Waiting
from tests.support.toys import LENGTHS, ToySource, ingest_toy

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
HERE, SOURCE = Execution(workers=0), ToySource(per_group=1)


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Two worker processes, of which the one named 1 offers a GPU."""
    from distributed import Nanny, Scheduler, SpecCluster

    options: dict[str, Any] = {"nthreads": 1, "dashboard_address": None}
    spec = {i: {"cls": Nanny, "options": options | {"resources": {"GPU": i}, "name": i}} for i in range(2)}
    with SpecCluster(spec, scheduler={"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": ":0"}}) as started:
        yield started


@pytest.fixture
def there(dask: Any) -> Execution:
    return Execution("dask", scheduler=dask.scheduler_address)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """What an undisturbed run in one process makes."""
    lake = Lake.at(tmp_path_factory.mktemp("local") / "lake")
    ingest_toy(lake, SOURCE)
    run_stage(AnnotateStage.named(lake, "language_motion"), execution=HERE)
    return lake


def content(lake: Lake) -> list[Any]:
    """Everything a lake says that is not a time or a place: rows as committed, and the bytes of every file."""
    timed = (
        "committed_ns", "run", "run_units", "started_ns", "seconds", "cpu_seconds", "frames_per_s", "host", "peak_rss_mb", "wait_share",
        "model_seconds", "device_busy",
    )  # fmt: skip
    tables = []
    for name in ("datasets", "shards", "episodes", "annotations", "runs", "quarantine"):
        rows = Catalog(lake).scan(name).collect()
        rows = rows.drop([c for c in rows.columns if c in timed or rows[c].dtype == pl.List(pl.Struct)])
        tables.append(sorted(map(str, rows.rows())))
    files = {
        p.relative_to(lake.root).as_posix(): p.read_bytes()
        for d in ("shards", "annotations")
        for p in Path(lake.root, d).rglob("*.*")
    }
    return [tables, files]


def run_and_kill(stage: Stage, execution: Execution, folder: Path) -> StageReport:
    """Run `stage` while the process that works on its first unit is killed."""
    folder.mkdir()
    waiting = Waiting(stage, folder)
    killer = threading.Thread(target=lambda: os.kill(waiting.victim(), signal.SIGKILL), daemon=True)
    killer.start()
    return run_stage(waiting, execution=execution)


def test_a_worker_killed_in_an_ingest_and_in_an_annotation_run_changes_nothing(
    lake: Lake, there: Execution, local: Lake, tmp_path: Path
) -> None:
    ingested = run_and_kill(IngestStage(lake, SOURCE), there, tmp_path / "ingest")
    assert (ingested.count("done"), ingested.count("failed")) == (len(LENGTHS), 0)
    annotated = run_and_kill(AnnotateStage.named(lake, "language_motion"), there, tmp_path / "annotate")
    assert (annotated.count("done"), annotated.count("failed")) == (len(LENGTHS), 0)
    assert content(lake) == content(local)


def test_gpu_work_goes_to_the_worker_that_offers_one(lake: Lake, there: Execution, tmp_path: Path) -> None:
    run_stage(Telling(lake, tmp_path / "cpu"), execution=there)
    run_stage(Telling(lake, tmp_path / "gpu", gpus=1), execution=there)
    cpu, gpu = ((tmp_path / name).read_text().split() for name in ("cpu", "gpu"))
    assert (len(cpu), len(gpu)) == (6, 6)
    assert len(set(cpu)) == 2
    assert len(set(gpu)) == 1


def test_gpu_work_without_such_a_worker_is_refused_not_awaited(lake: Lake, there: Execution, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no worker of tcp://.* offers one; start workers with .*--resources GPU=1"):
        run_stage(Telling(lake, tmp_path / "log", gpus=2), execution=there)


def test_other_versions_are_refused_with_a_sentence(
    lake: Lake, there: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = versions() | {"pyarrow": "1.0", "python": "2.7"}
    monkeypatch.setattr(cluster, "check_same", lambda theirs, where: check_same(theirs, where, ours))
    with pytest.raises(
        UsageError,
        match=r"the Dask worker tcp://\S+ of tcp://\S+ has python 3\.\d+ instead of 2\.7, pyarrow \S+ instead of 1\.0; ",
    ):
        run_stage(Telling(lake, tmp_path / "log"), execution=there)
    assert not (tmp_path / "log").exists()


def test_few_units_are_under_way_at_a_time(lake: Lake, there: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, wait = [0], cluster.Workers.wait

    def watch(workers: cluster.Workers, futures: list[Any]) -> list[Any]:
        most[0] = max(most[0], len(futures))
        return wait(workers, futures)

    monkeypatch.setattr(cluster.Workers, "wait", watch)
    assert run_stage(Telling(lake, tmp_path / "log", count=40), execution=there).count("done") == 40
    assert most[0] == 4  # two for each of two workers


def test_a_cluster_without_workers_is_awaited_for_a_while_and_then_refused(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Scheduler, SpecCluster

    monkeypatch.setattr(cluster, "ALONE_S", 0.4)
    with (
        SpecCluster({}, scheduler={"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": ":0"}}) as empty,
        pytest.raises(TransportError, match=r"tcp://\S+ has had no worker for 0 s; start workers, then run again"),
    ):
        run_stage(Telling(lake, tmp_path / "log"), execution=Execution("dask", scheduler=empty.scheduler_address))


def test_no_scheduler_is_a_clear_error(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.3)
    with pytest.raises(TransportError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 within"):
        run_stage(Telling(lake, tmp_path / "log"), execution=Execution("dask", scheduler="tcp://127.0.0.1:9"))
