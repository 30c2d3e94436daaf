"""The stand-ins for real data are what they claim: a LeRobot set LeRobot itself wrote, and clips whose narrations are true."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.record import pusht
from pipelines.record.demo_sets import EGO_SPEC, LEROBOT_SPEC, handled_from, narrate, write_ego_clip, write_lerobot_set
from pipelines.record.rollout import Rollout, Samples

PLAIN = (1.0, 0.0, 0.0, 0.0)


def rollout(poses: list[list[float]], success: bool = True) -> Rollout:
    values = np.array(poses)
    times = np.arange(len(values), dtype=np.int64)
    reward = np.zeros(len(values), np.float32)
    return Rollout("t", 0, "open it", success, 10, {}, reward, {}, streams=(Samples("object_pose.box", times, values),))


def test_an_object_is_handled_once_it_is_clearly_on_its_way() -> None:
    settled = [[0.0, 0.0, 0.003 * (i > 0), *PLAIN] for i in range(5)]
    moving = [[0.1 * i, 0.0, 0.003, *PLAIN] for i in range(4)]
    assert handled_from(np.array(settled)) is None
    assert handled_from(np.array(settled + moving)) == 6


def test_turning_counts_as_handling() -> None:
    angles = [0.0, 0.0, 0.2, 0.4]
    assert handled_from(np.array([[0, 0, 0, np.cos(a / 2), 0, 0, np.sin(a / 2)] for a in angles])) == 2


def test_narrations_tell_reaching_from_doing_and_trying_from_succeeding() -> None:
    poses = [[0.0, 0, 0, *PLAIN]] * 6 + [[0.5, 0, 0, *PLAIN]] * 4
    assert narrate(rollout(poses)) == [(0.0, 0.6, "reach out to open it"), (0.6, 1.0, "open it")]
    assert narrate(rollout(poses[:6], success=False)) == [(0.0, 0.6, "try to open it")]


@pytest.mark.filterwarnings("ignore:pkg_resources")
def test_an_ego_clip_has_pictures_and_narrations_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short, so that the narration has to say that it was a try."""
    monkeypatch.setattr(pusht, "LIMIT_S", 6.0)
    pytest.importorskip("gym_pusht", reason="the extra [sim] is not installed")
    spec = replace(EGO_SPEC, simulator="pusht", size=64, hz=10)
    made = write_ego_clip(tmp_path / "ego", spec)
    assert made.fresh
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["ego", "narrations.csv", "push-t-1000.mp4"]
    with (tmp_path / "ego" / "narrations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with av.open(str(tmp_path / "ego" / "push-t-1000.mp4")) as clip:
        count = sum(1 for _ in clip.decode(video=0))
    assert (count, count) == (made.frames, round(float(rows[-1]["end_s"]) * 10))
    assert [r["text"] for r in rows] == [
        "reach out to push the grey T onto the green outline",
        "try to push the grey T onto the green outline",
    ]
    assert rows[0]["end_s"] == rows[1]["start_s"]
    assert not write_ego_clip(tmp_path / "ego", spec).fresh


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:pkg_resources")
def test_lerobot_writes_the_lerobot_set(tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht", reason="the extra [sim] is not installed")
    target = tmp_path / "lerobot"
    made = write_lerobot_set(target, replace(LEROBOT_SPEC, simulator="pusht", episodes=1, size=64, hz=10))
    info = json.loads((target / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["fps"]) == ("v3.0", 1, 10)
    assert info["total_frames"] * 2 == made.frames
    assert {k for k, f in info["features"].items() if f["dtype"] == "video"} == {
        "observation.images.front",
        "observation.images.wrist",
    }
    assert not write_lerobot_set(target).fresh
    assert [p.name for p in tmp_path.iterdir()] == ["lerobot"]
