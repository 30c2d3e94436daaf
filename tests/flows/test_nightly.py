"""The nightly flow on toy data, to the end: what it made, its artifacts and event, and that a second run does nothing."""

from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from catalog.lake import Lake
from catalog.tables import Catalog
from flows import artifacts, events, nightly
from flows.nightly import Job, produce
from pipelines.sources.base import SourceOptions
from pipelines.sources.human_video import HumanVideoSource
from schemas.mixture import MixtureSpec, SourceSpec
from tests.support.toys import ToySource
from tests.support.video import write_video

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
]


def toy_job(tmp_path: Path) -> Job:
    hands = tmp_path / "hands"
    if not hands.exists():
        write_video(hands / "a.mp4", list(range(30)))
        (hands / "a.csv").write_text("start_s,end_s,text\n0,1,reach | grasp\n")
        (hands / "broken.mp4").write_text("no video")
    mixture = MixtureSpec("toy-mix", 200, (SourceSpec("toy"), SourceSpec("hands", weight=0.5)))
    sources = (ToySource(), HumanVideoSource(str(hands), SourceOptions("hands")))
    return Job(Lake.at(tmp_path / "lake"), sources, mixture, tmp_path / "exports", formats=("lerobot",))


def run(job: Job) -> Any:
    @flow(name="toy-nightly", validate_parameters=False)
    def toy() -> Any:
        return produce(job)

    return toy(return_state=True)


def latest(key: str) -> Any:
    with get_client(sync_client=True) as client:
        found = [a for a in client.read_artifacts(limit=200) if a.key == key]
    return max(found, key=lambda a: a.created)


def test_the_flow_takes_sources_to_verified_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(events, "emit_event", lambda name, resource, payload: told.append((name, resource, payload)))
    job = toy_job(tmp_path)
    state = run(job)
    assert state.is_completed(), state.message
    assert state.message == "9 units done, 1 rejects in quarantine"
    catalog = Catalog(job.lake)
    (row,) = catalog.latest("publications").collect().iter_rows(named=True)
    assert row["verified"]
    assert (row["episodes"], row["rows"]) == (4, 46)
    assert row["uri"] == str(tmp_path / "exports" / "lerobot" / "toy")

    assert latest("nightly-progress").data == 100.0
    table = latest("nightly-summary").data
    assert "CorruptMediaError" in str(table)
    assert "toy" in str(table)
    card = latest("lake-card").data
    for piece in ("2 datasets, 5 episodes", "## Mixture toy-mix", "| toy | lerobot | 4 | 46 |", "| verify | lerobot | 1 |"):
        assert piece in card, piece
    page = Path(job.lake.report("nightly.html"))
    assert "reach | grasp" in page.read_text()
    assert str(page) in str(latest("report-page").data)
    assert [(e[0], e[1]["prefect.resource.id"], e[2]["steps"]) for e in told] == [(events.PUBLISHED, "cotrain.dataset.toy", 46)]
    assert "CorruptMediaError" in latest("nightly-failures").data

    runs, written = catalog.scan("runs").collect().height, page.stat().st_mtime_ns
    again = run(job)
    assert again.is_completed()
    assert again.message == "nothing to do: everything was already there, 0 rejects in quarantine"
    assert catalog.scan("runs").collect().height == runs
    assert page.stat().st_mtime_ns == written
    assert len(told) == 1


def test_the_nightly_entry_point_builds_the_demo_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployed flow itself, with recording and producing replaced: its parameters reach the job."""
    jobs: list[Job] = []
    monkeypatch.setattr(nightly, "prepare", lambda plan: None)
    monkeypatch.setattr(nightly, "produce", lambda job, budget_s: jobs.append(job))
    nightly.nightly.fn(lake=str(tmp_path / "lake"), work=str(tmp_path / "work"), data=str(tmp_path), simulator="pusht")
    (job,) = jobs
    assert job.lake.root == str(tmp_path / "lake")
    assert [s.options.dataset for s in job.sources] == ["sim", "arm", "ego"]
    assert job.exports == tmp_path / "work" / "exports"
    assert job.formats == ("lerobot", "rlds")


def test_a_cell_with_a_bar_does_not_break_the_cards_table() -> None:
    assert artifacts._table(("a", "b"), [("x|y", "two\nlines")]) == ["| a | b |", "| --- | --- |", "| x\\|y | two lines |", ""]
