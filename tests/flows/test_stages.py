"""The flows of single stages: what they tell, what they publish and what not, budgets, GPUs, clusters, secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from catalog.lake import Lake
from catalog.tables import Catalog
from flows import events, tasks
from flows.curate import curate
from flows.export import export
from flows.ingest import ingest
from flows.mixture import mixture
from flows.report import report
from flows.run import Run
from schemas.errors import VerificationError
from tests.flows.test_nightly import latest
from tests.flows.test_tasks import Scripted
from tests.support.toys import ingest_toy
from tests.support.video import write_video

pytestmark = [pytest.mark.usefixtures("prefect_server")]
SECRET = "w7-this-must-not-show-9q"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    found: list[tuple[str, dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(events, "emit_event", lambda name, resource, payload: found.append((name, resource, payload)))
    return found


def run(stage: Any, **options: Any) -> Any:
    @flow(name="single", validate_parameters=False)
    def single() -> Any:
        at = Run("single", stage.lake, **options)
        at.do(stage)
        return at.end()

    return single(return_state=True)


def test_ingest_tells_of_new_episodes_once(lake: Lake, tmp_path: Path, told: list[Any]) -> None:
    write_video(tmp_path / "hands" / "a.mp4", list(range(20)))
    states = [ingest(str(tmp_path / "hands"), lake=lake.root, return_state=True) for _ in range(2)]
    assert [s.message for s in states] == [
        "1 units done, 0 rejects in quarantine", "nothing to do: everything was already there, 0 rejects in quarantine",
    ]  # fmt: skip
    ((name, resource, payload),) = told
    assert (name, resource["prefect.resource.id"], resource["cotrain.actions"]) == (
        events.INGESTED,
        "cotrain.dataset.hands",
        "false",
    )
    assert payload == {"lake": lake.root, "episodes": 1, "steps": 20}


def test_only_what_reads_back_equal_is_published(
    lake: Lake, tmp_path: Path, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_toy(lake)
    good = export("toy", str(tmp_path / "good"), ("lerobot",), lake=lake.root, return_state=True)
    assert good.is_completed(), good.message
    assert [(e[0], e[2]["folder"]) for e in told] == [(events.PUBLISHED, str(tmp_path / "good" / "lerobot" / "toy"))]

    whole = Run.do

    def damaging(at: Run, stage: Any, label: str = "") -> Any:
        """The adversary: change a number in the export before anybody reads it back."""
        if stage.name == "verify":
            _shift_the_state(tmp_path / "bad" / "lerobot" / "toy")
        return whole(at, stage, label)

    monkeypatch.setattr(Run, "do", damaging)
    bad = export("toy", str(tmp_path / "bad"), ("lerobot",), lake=lake.root, return_state=True)
    assert bad.is_failed()
    with pytest.raises(VerificationError, match="differs from the lake"):
        bad.result()
    assert len(told) == 1
    assert "VerificationError" in latest("export-failures").data
    rows = Catalog(lake).latest("publications").collect().sort("uri")
    assert dict(rows.select("uri", "verified").iter_rows()) == {
        str(tmp_path / "good" / "lerobot" / "toy"): True, str(tmp_path / "bad" / "lerobot" / "toy"): False,
    }  # fmt: skip


def _shift_the_state(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (path,) = folder.glob("data/*/*.parquet")
    table = pq.read_table(path)
    at = table.schema.get_field_index("observation.state")
    values = [[x + 1 for x in row] for row in table.column(at).to_pylist()]
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type)), path)


def test_curate_mixture_and_report_make_what_their_commands_make(lake: Lake, tmp_path: Path) -> None:
    ingest_toy(lake)
    gates = tmp_path / "gates.toml"
    gates.write_text('name = "short"\n[[gates]]\nsql = "steps < 10"\nreason = "too short"\n')
    state = curate(spec=str(gates), methods=("sparc",), lake=lake.root, return_state=True)
    assert state.is_completed(), state.message
    decisions = Catalog(lake).latest("decisions").collect()
    assert decisions["keep"].to_list().count(False) == 1
    assert "1" in str(latest("curate-verdicts").data)
    spec = tmp_path / "mix.toml"
    spec.write_text('name = "toy-mix"\nsamples = 50\n[[sources]]\nname = "toy"\n')
    assert mixture(str(spec), lake.root, return_state=True).is_completed()
    assert Catalog(lake).latest("mixtures").collect()["name"].to_list() == ["toy-mix"]
    assert report(lake.root, return_state=True).is_completed()
    assert Path(lake.report("lake.html")).is_file()
    assert "## Mixture toy-mix" in latest("lake-card").data


def test_a_failed_unit_shows_its_reason_and_a_rerun_repairs_it(lake: Lake) -> None:
    stage = Scripted(lake, errors=[ZeroDivisionError("a bug in frame 7")])
    first = run(stage)
    assert first.is_failed()
    assert "1 units failed" in str(first.message)
    assert "| scripted | unit 0 | ZeroDivisionError | a bug in frame 7 |" in latest("single-failures").data
    second = run(stage)
    assert second.is_completed()
    assert "None." in latest("single-failures").data


def test_no_unit_starts_after_the_budget(lake: Lake) -> None:
    stage = Scripted(lake, count=3)
    cut = run(stage, budget_s=0.0)
    assert cut.is_completed()
    assert cut.message == "0 units done, the time was up with 3 left for the next run, 0 rejects in quarantine"
    assert run(stage, budget_s=600.0).message == "3 units done, 0 rejects in quarantine"


def test_gpu_work_waits_for_the_limit_and_other_work_does_not(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, int]] = []

    @contextmanager
    def concurrency(name: str, occupy: int) -> Iterator[None]:
        taken.append((name, occupy))
        yield

    monkeypatch.setattr(tasks, "concurrency", concurrency)
    run(Scripted(lake, name="plain"))
    assert taken == []
    stage = Scripted(Lake.at(f"{lake.root}-gpu"))
    stage.gpus = 1  # type: ignore[attr-defined]
    run(stage)
    assert taken == [("gpu", 1)]


@pytest.mark.filterwarnings("ignore")
def test_a_stage_may_run_on_a_cluster_as_one_task(lake: Lake, tmp_path: Path) -> None:
    from distributed import LocalCluster

    from tests.support.dask_stages import Telling

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        state = run(Telling(lake, tmp_path / "log", count=5), scheduler=cluster.scheduler.address)
    assert state.message == "5 units done, 0 rejects in quarantine"
    assert len((tmp_path / "log").read_text().split()) == 5


def test_prefect_never_learns_a_lakes_credentials(tmp_path: Path) -> None:
    """Every byte of the server's database after a run that worked, and one that failed."""
    lake = Lake(str(tmp_path / "lake"), {"secret": SECRET})
    assert run(Scripted(lake)).is_completed()
    assert run(Scripted(lake, count=2, errors=[ZeroDivisionError("a bug")])).is_failed()
    with get_client(sync_client=True) as client:
        assert str(lake.root) not in str(client.read_flow_runs(limit=1)[0].parameters)
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    database = Path(str(PREFECT_API_DATABASE_CONNECTION_URL.value()).split("///", 1)[1].split("?")[0])
    content = b"".join(p.read_bytes() for p in database.parent.glob(f"{database.name}*"))
    assert b"a bug" in content
    assert SECRET.encode() not in content
