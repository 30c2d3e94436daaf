"""Recording into a folder: whole episodes, once each, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.record import layout, writer
from pipelines.record import record as recorder
from pipelines.record.record import EpisodeReport, record, resolve
from pipelines.record.recording import existing_keys, read_facts, read_header
from pipelines.record.spec import RecordSpec
from schemas.errors import DependencyError, MalformedSourceError, UnknownNameError, UsageError, WorkerCrashError
from tests.support.toy_simulator import TARGET, ToySimulator, toy_spec

KEYS = ["stack-0", "stack-1", "stack-2"]


def go(out: Path, spec: RecordSpec | None = None, **options: Any) -> recorder.RecordReport:
    return record(spec or toy_spec(), out, workers=0, **options)


def test_a_recording_holds_what_its_spec_asks_for(out: Path) -> None:
    seen: list[EpisodeReport] = []
    report = go(out, on_episode=seen.append)
    assert (report.episodes, report.skipped, report.successes, report.frames) == (3, 0, 2, 3 * 12 * 2)
    assert [r.key for r in seen] == KEYS
    assert existing_keys(out) == set(KEYS)
    facts = read_facts(out / "episodes" / "stack-2")
    assert (facts.success, facts.steps, facts.instruction) == (False, 12, "please stack")
    assert set(facts.files) >= {"steps.parquet", "streams.parquet", "front.mp4", "segmentation.wrist/000000200000000.png"}
    header = read_header(out)
    assert header is not None
    assert header.spec.tasks == ("stack",)
    assert header.contract.licence == "MIT"


def test_recording_again_does_nothing_and_says_so(out: Path) -> None:
    go(out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    report = go(out)
    assert (report.episodes, report.skipped, report.successes) == (0, 3, 2)
    assert report.notes == ("all 3 episodes are recorded already; nothing to do",)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_more_episodes_are_added_to_those_that_are_there(out: Path) -> None:
    go(out)
    report = go(out, toy_spec(episodes=5))
    assert (report.episodes, report.skipped) == (2, 3)
    assert existing_keys(out) == {f"stack-{i}" for i in range(5)}


def test_another_task_widens_the_contract(out: Path) -> None:
    go(out)
    go(out, toy_spec(tasks=("pour",), episodes=1))
    header = read_header(out)
    assert header is not None
    assert header.spec.tasks == ("stack", "pour")
    assert [s.name for s in header.contract.streams] == ["object_pose.stack", "object_pose.pour"]


def test_other_settings_do_not_mix_into_a_recording(out: Path) -> None:
    go(out)
    with pytest.raises(UsageError, match="size 64, now 96"):
        go(out, toy_spec(size=96))


def test_auto_continues_with_the_recordings_own_simulator(out: Path) -> None:
    go(out)
    assert go(out, toy_spec(simulator="auto", episodes=4)).simulator == "toy"


def test_an_episode_that_fails_to_write_leaves_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_mp4", full)
    with pytest.raises(OSError, match="No space"):
        go(out)
    assert list((out / "episodes").iterdir()) == []


def test_kill_9_leaves_whole_episodes_only(out: Path) -> None:
    """The process is killed while the second episode is half on disk; the next run completes and cleans up."""
    code = f"""
import os, signal, sys
from pathlib import Path
from pipelines.record import record, writer
from tests.support.toy_simulator import toy_spec
record.SIMULATORS.known["toy"] = {TARGET!r}
sync, calls = writer._sync, []
def dying(path):
    sync(path)
    calls.append(path)
    if "stack-1" in str(path) and path.suffix == ".mp4":
        os.kill(os.getpid(), signal.SIGKILL)
writer._sync = dying
record.record(toy_spec(), Path({str(out)!r}), workers=0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert existing_keys(out) == {"stack-0"}
    assert list((out / "episodes").glob(f"{layout.TEMPORARY}*"))
    report = go(out)
    assert (report.episodes, report.skipped) == (2, 1)
    assert sorted(p.name for p in (out / "episodes").iterdir()) == KEYS


def test_leftovers_of_a_process_that_still_runs_stay(out: Path) -> None:
    alive = out / "episodes" / f"{layout.TEMPORARY}stack-9-{os.getpid()}-abc"
    alive.mkdir(parents=True)
    go(out)
    assert alive.is_dir()
    assert "stack-9" not in existing_keys(out)


def test_two_runs_may_meet_at_one_episode(out: Path) -> None:
    go(out)
    spec = toy_spec()
    header = read_header(out)
    assert header is not None
    rollout = ToySimulator(spec).run("stack", 0)
    assert writer.write_episode(out, header.contract, rollout, gop=8) is False
    assert sorted(p.name for p in (out / "episodes").iterdir()) == KEYS


def test_a_dead_worker_is_reported_with_its_episode(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(function: Any, calls: list[Any], execution: Any) -> Any:
        yield calls[0], WorkerCrashError("the worker process died (exit code -11)")

    monkeypatch.setattr(recorder, "run_all", dead)
    with pytest.raises(WorkerCrashError, match=r"exit code -11.*stack-0.*continue"):
        go(out)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "zip"}', '{"format": "cotrain-recording", "version": 99}',
                                  '{"format": "cotrain-recording", "version": 1, "spec": {"hz": -1}, "contract": {}}'])  # fmt: skip
def test_a_foreign_recording_json_is_named(out: Path, text: str) -> None:
    out.mkdir()
    (out / "recording.json").write_text(text)
    with pytest.raises(MalformedSourceError, match=r"recording\.json"):
        go(out)


def test_pusht_stands_in_where_meta_world_cannot_render(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "metaworld_obstacle", lambda spec: "libEGL is not installed")
    spec, notes = resolve(RecordSpec())
    assert (spec.simulator, spec.tasks) == ("pusht", ("push-t",))
    assert notes == ("recording PushT instead of Meta-World: libEGL is not installed",)
    with pytest.raises(DependencyError, match=r"reach-v3.*libEGL"):
        resolve(RecordSpec(tasks=("reach-v3",)))


def test_meta_world_is_the_first_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "metaworld_obstacle", lambda spec: "")
    spec, notes = resolve(RecordSpec())
    assert (spec.simulator, len(spec.tasks), notes) == ("metaworld", 3, ())
    assert resolve(RecordSpec(tasks=("push-t",)))[0].simulator == "pusht"


def test_a_misspelt_task_is_noticed_before_anything_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "metaworld_obstacle", lambda spec: "")
    with pytest.raises(UnknownNameError, match="drawer-open-v3"):
        resolve(RecordSpec(tasks=("drawer-opn-v3",)))


def test_an_absent_package_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "find_spec", lambda name: None)
    assert "cotrain[sim]" in recorder.metaworld_obstacle(RecordSpec())


def test_an_unknown_simulator_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="metaworld"):
        resolve(RecordSpec(simulator="metawrld"))  # pyright: ignore[reportArgumentType]


def test_worker_processes_record_the_real_thing(gl: str, out: Path) -> None:
    spec = RecordSpec(simulator="metaworld", tasks=("reach-v3",), episodes=2, size=32, hz=8, segmentation_hz=2)
    report = record(spec, out, workers=1)
    assert (report.episodes, report.successes, report.simulator) == (2, 2, "metaworld")
    header = json.loads((out / "recording.json").read_text())
    assert header["spec"]["gl"] == gl
    first, second = (read_facts(out / "episodes" / f"reach-v3-{i}") for i in range(2))
    assert first.files["front.mp4"] != second.files["front.mp4"]
