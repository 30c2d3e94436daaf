"""Log lines, live progress, the view of runs, and the metrics: against what is known to have run."""

import json
import logging
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.observe.live import LiveRun, Progress, live_runs
from pipelines.observe.log import LOG, configure
from pipelines.observe.metrics import serve_metrics, write_metrics
from pipelines.observe.top import clock, snapshot
from pipelines.sweep import sweep
from pipelines.unit import UnitReport, run_stage
from schemas.errors import RejectLimitError, UsageError
from tests.support.crash_stage import CrashStage
from tests.support.toys import ToySource, ingest_toy


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    path, before = tmp_path / "log.jsonl", (list(LOG.handlers), LOG.level)
    configure(f"json:{path}")
    yield path
    for handler in set(LOG.handlers) - set(before[0]):
        handler.close()
        LOG.removeHandler(handler)
    LOG.setLevel(before[1])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_logs_its_start_its_units_and_its_end(lake: Lake, log: Path) -> None:
    run_stage(CrashStage(lake, 3), execution=Execution(workers=0))
    found = lines(log)
    assert [line["event"] for line in found] == ["stage-started", *["unit-done"] * 3, "stage-ended"]
    assert found[0]["todo"] == 3
    assert {line["run"] for line in found} == {Catalog(lake).scan("runs").collect()["run"][0]}
    assert [line["unit"] for line in found[1:4]] == ["u-0000", "u-0001", "u-0002"]
    assert all(line["seconds"] >= 0 and line["stage"] == "crash" and line["time"].endswith("+00:00") for line in found[1:])
    assert found[2]["error"] == "broken"


def test_a_stopped_run_logs_why(lake: Lake, log: Path) -> None:
    with pytest.raises(RejectLimitError):
        ingest_toy(lake, ToySource(lengths=(3,) * 24, per_group=24, broken=tuple(range(20))))
    last = lines(log)[-1]
    assert (last["event"], last["level"]) == ("stage-stopped", "error")
    assert last["error"].startswith("RejectLimitError: ")
    assert live_runs(lake) == []


def test_nothing_is_said_unless_asked_for(lake: Lake, capfd: pytest.CaptureFixture[str]) -> None:
    run_stage(CrashStage(lake, 1), execution=Execution(workers=0))
    assert capfd.readouterr() == ("", "")
    assert not LOG.isEnabledFor(logging.INFO) or LOG.level == logging.NOTSET


@pytest.mark.parametrize("wanted", ["xml", "json:/nowhere/at/all.jsonl"])
def test_a_wrong_setting_is_told(wanted: str) -> None:
    with pytest.raises(UsageError, match="COTRAIN_LOG"):
        configure(wanted)


def test_progress_is_there_while_a_run_goes_on_and_gone_after(lake: Lake) -> None:
    seen: list[LiveRun] = []
    run_stage(CrashStage(lake, 2), execution=Execution(workers=0), on_unit=lambda _: seen.extend(live_runs(lake)))
    assert [(live.stage, live.todo) for live in seen] == [("crash", 2)] * 2
    assert live_runs(lake) == []


def test_progress_counts_and_estimates(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.observe.live.EVERY_S", 0.0)
    progress = Progress(lake, "run-1", "ingest", 10, 5)
    for status in ("done", "failed", "recovered", "done"):
        progress.take(UnitReport("u", "u", "toy", status, frames=100))
    (live,) = live_runs(lake)
    assert (live.todo, live.skipped, live.done, live.failed, live.frames) == (10, 5, 3, 1, 400)
    told = LiveRun("r", "s", 10, done=3, failed=1, started=100.0, updated=108.0)
    assert (told.per_s, told.eta_s) == (0.5, 12.0)
    now = live.updated + 90
    (line,) = snapshot(lake, now=now)
    assert (line.state, line.open, line.failed) == ("silent for 1:30", 6, 1)
    assert sweep(lake).files == 0, "it may be inside a long unit"
    assert sweep(lake, older_than_s=-60).files == 1
    assert live_runs(lake) == []


def test_a_store_that_refuses_progress_stops_nothing(lake: Lake, log: Path) -> None:
    Path(lake.root).mkdir()
    (Path(lake.root) / "live").write_text("a file where the folder should be")
    assert run_stage(CrashStage(lake, 1), execution=Execution(workers=0)).count("done") == 1
    assert [line["event"] for line in lines(log)].count("live-progress-off") == 1


def test_top_shows_what_ended(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    run_stage(CrashStage(lake, 3), execution=Execution(workers=0))
    ingest_toy(lake)
    newest, before = snapshot(lake)
    assert (newest.stage, newest.dataset, newest.state, newest.units, newest.open) == ("ingest", "toy", "ended", 2, 0)
    assert (before.stage, before.rejects, before.hosts) == ("crash", 1, 1)
    frames = Catalog(lake).scan("runs").collect()["frames"].sum()
    assert newest.frames_per_s == pytest.approx(frames / newest.elapsed_s)
    assert [clock(s) for s in (None, 59.6, 3723)] == [None, "1:00", "1:02:03"]
    assert run(["top", "--once", "--lake", lake.root]) == 0
    assert "0 running, 2 ended" in capsys.readouterr().out
    assert run(["top", "--json", "--lake", lake.root, "--last", "1"]) == 0
    assert [r["stage"] for r in json.loads(capsys.readouterr().out)["runs"]] == ["ingest"]


def test_a_run_that_was_stopped_says_how_much_is_open(lake: Lake) -> None:
    from pipelines.unit.commit import Committer
    from pipelines.unit.execute import prepare

    stage = CrashStage(lake, 3)
    Committer(stage, "run-x", run_units=3).commit([prepare(stage, stage.plan()[0])])
    (line,) = snapshot(lake)
    assert (line.state, line.units, line.open) == ("stopped", 1, 2)


def values(text: str) -> dict[tuple, float]:
    return {
        (s.name, *sorted(s.labels.values())): s.value for family in text_string_to_metric_families(text) for s in family.samples
    }


def test_metrics_are_what_the_catalog_holds(lake: Lake, tmp_path: Path) -> None:
    ingest_toy(lake, ToySource(broken=(1,)))
    progress = Progress(lake, "run-1", "annotate", 10, 0)
    write_metrics(lake, tmp_path / "lake.prom")
    found = values((tmp_path / "lake.prom").read_text())
    rows = Catalog(lake).latest("episodes").collect()
    assert found["cotrain_episodes", "toy"] == rows.height == 3
    assert found["cotrain_episode_steps", "toy"] == rows["steps"].sum()
    assert found["cotrain_units_total", "ingest"] == 2
    assert found["cotrain_unit_frames_total", "ingest"] == Catalog(lake).scan("runs").collect()["frames"].sum() > 0
    assert found["cotrain_rejected_episodes_total", "CorruptMediaError", "ingest"] == 1
    open_units = {key: value for key, value in found.items() if key[0] == "cotrain_run_open_units"}
    assert list(open_units.values()) == [10]
    assert found["cotrain_table_files", "episodes"] >= 1
    progress.end()


def test_metrics_are_served_and_follow_the_lake(lake: Lake) -> None:
    server, thread = serve_metrics(lake, "127.0.0.1:0")
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    try:
        assert ("cotrain_units_total", "crash") not in values(urllib.request.urlopen(url).read().decode())
        run_stage(CrashStage(lake, 2), execution=Execution(workers=0))
        assert values(urllib.request.urlopen(url).read().decode())["cotrain_units_total", "crash"] == 2
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "arguments", [[], ["--out", "a", "--serve", ":1"], ["--serve", "here"], ["--out", "/nowhere/at/all.prom"]]
)
def test_the_command_says_what_it_needs(lake: Lake, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["metrics", "--lake", lake.root, *arguments]) == 2
    assert capsys.readouterr().err.startswith("cotrain: ")


def test_a_run_costs_little_to_watch(lake: Lake) -> None:
    """Not a timing: the number of writes. A thousand units in a moment write the file once, at the start."""
    progress, written = Progress(lake, "run-1", "noop", 1000, 0), Path(lake.root, "live", "run-1.json").stat().st_mtime_ns
    stop = time.monotonic() + 1.5
    for _ in range(1000):
        if time.monotonic() < stop:
            progress.take(UnitReport("u", "u", "toy", "done"))
    assert Path(lake.root, "live", "run-1.json").stat().st_mtime_ns == written


def test_the_live_view_ends_quietly_when_interrupted(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage(CrashStage(lake, 1), execution=Execution(workers=0))
    looks: list[float] = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", wait)
    assert run(["top", "--lake", lake.root, "--every", "1"]) == 0
    assert looks == [1.0, 1.0]
    shown = capsys.readouterr().out
    assert "crash" in shown
    assert "ended" in shown
