"""The demo, small: every step works once, is verified, and does nothing the second time."""

from pathlib import Path

import pytest

from catalog.lake import Lake
from pipelines.demo import system
from pipelines.demo.plan import DemoPlan, DemoSource, make_plan
from pipelines.demo.run import Demo, DemoReport
from pipelines.demo.summary import closing
from pipelines.executors import Execution
from pipelines.record.spec import RecordSpec
from pipelines.sources.base import SourceOptions
from pipelines.terminal.console import Console
from pipelines.terminal.stages import Running
from schemas.errors import DependencyError
from tests.support.video import write_video


def small_plan(work: Path, data: Path) -> DemoPlan:
    write_video(work / "clips" / "a.mp4", list(range(40)))
    (work / "clips" / "narrations.csv").write_text("file,start_s,end_s,text\na.mp4,0,1,stir the pot\n")
    robot = make_plan(work, data).sources[1]
    sim = DemoSource("sim", "recording", work / "recordings", SourceOptions("sim"), True, "PushT")
    human = DemoSource("clips", "human_video", work / "clips", SourceOptions("clips"), False, "generated")
    return DemoPlan(work, RecordSpec(simulator="pusht", episodes=1, segmentation_hz=0), (sim, robot, human))


def run(lake: Lake, plan: DemoPlan) -> tuple[Demo, DemoReport]:
    demo = Demo(lake, plan, Running(Console(), Execution(workers=0)))
    return demo, demo.run()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # lerobot, torch and pygame warn on import
def test_the_main_job_end_to_end_and_again(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, lake = small_plan(tmp_path, data), Lake.at(tmp_path / "lake")
    demo, first = run(lake, plan)
    done = {s["step"]: s for s in first.steps}
    assert {s["source"] for s in [{"source": r[0]} for r in done["query"]["rows"]]} == {"human", "robot", "sim"}
    for name in ("lerobot", "rlds"):
        exports = done[f"verify {name}"]["exports"]
        assert done[f"verify {name}"]["differences"] == 0
        assert {Path(e["uri"]).name for e in exports} == {"sim", "g1"}
        assert sum(e["steps_compared"] for e in exports) == sum(e["rows"] for e in exports)
    assert Path(lake.root, "reports", "demo.html").stat().st_size > 10_000
    capsys.readouterr()
    _, second = run(lake, plan)
    assert first.worked
    assert not second.worked
    assert capsys.readouterr().out.count("nothing to do") >= 7
    assert "cotrain verify" in closing(demo, 1.0)


def test_without_real_data_the_demo_makes_its_own_and_says_so(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, None)
    assert [s.made for s in plan.sources] == [True, True, True]
    assert "no real robot data on this machine" in plan.sources[1].about
    assert "no real human video on this machine" in plan.sources[2].about


def test_where_rendering_cannot_be_installed_it_says_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise DependencyError("no EGL")

    monkeypatch.setattr(system, "choose_backend", fails)
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    said: list[str] = []
    assert system.pick_simulator(said.append) == "pusht"
    assert "apt-get install -y libegl1" in said[0]
