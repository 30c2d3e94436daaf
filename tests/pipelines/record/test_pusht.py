"""PushT, which needs no OpenGL: the expert solves it, and the numbers say where things are."""

import numpy as np
import pytest

from pipelines.record import pusht
from pipelines.record.pusht import PushT
from pipelines.record.rollout import Rollout
from pipelines.record.spec import RecordSpec
from schemas.errors import UnknownNameError, UsageError

pytest.importorskip("gym_pusht", reason="the extra [sim] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning", "ignore:pkg_resources:DeprecationWarning")
SPEC = RecordSpec(simulator="pusht", size=64, hz=10, segmentation_hz=5, cameras=("front", "wrist", "ego"))


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    return PushT(SPEC).run("push-t", 6)


def test_the_expert_brings_the_block_home(rollout: Rollout) -> None:
    block, goal = (s.values for s in rollout.streams)
    assert rollout.success
    assert rollout.attributes["success_at_end"] == (rollout.attributes["coverage"] > 0.95)
    assert rollout.attributes["coverage"] > 0.93
    assert rollout.reward.max() == 1
    assert np.linalg.norm(block[-1, :3] - goal[0, :3]) < 0.01
    assert abs(block[-1, 3:] @ goal[0, 3:]) > 0.995
    assert np.linalg.norm(block[0, :3] - goal[0, :3]) > 0.02


def test_the_pusher_is_in_the_middle_of_its_own_camera(rollout: Rollout) -> None:
    red, _, blue = rollout.frames["wrist"][:, 30:34, 30:34].reshape(-1, 3).mean(0)
    assert blue > red + 50
    mask = rollout.masks["segmentation.wrist"].images
    assert (mask[:, 32, 32] == 3).all()


def test_the_pusher_is_drawn_where_the_state_says(rollout: Rollout) -> None:
    masks = rollout.masks["segmentation.front"]
    for step, mask in zip(masks.steps, masks.images, strict=True):
        rows, columns = np.nonzero(mask == 3)
        x, y, _ = rollout.columns["observation.state"][step]
        assert (rows.mean(), columns.mean()) == pytest.approx(((0.512 - x) / 0.008, (0.256 - y) / 0.008), abs=1.5)
    assert set(np.unique(masks.images)) == {0, 1, 2, 3}


def test_actions_are_targets_the_pusher_follows(rollout: Rollout) -> None:
    state, action = rollout.columns["observation.state"], rollout.columns["action"]
    lag = np.linalg.norm(state[1:, :2] - action[:-1], axis=1)
    assert lag.max() < 0.08
    assert (
        np.linalg.norm(state[1:, :2] - action[:-1], axis=1).mean() < np.linalg.norm(state[:-1, :2] - action[:-1], axis=1).mean()
    )


def test_a_scene_is_a_function_of_its_number(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusht, "LIMIT_S", 4.0)
    again, other = PushT(SPEC).run("push-t", 6), PushT(SPEC).run("push-t", 7)
    np.testing.assert_array_equal(again.columns["action"], rollout.columns["action"][:40])
    np.testing.assert_array_equal(again.frames["ego"], rollout.frames["ego"][:40])
    assert not np.array_equal(other.frames["front"][0], rollout.frames["front"][0])


def test_running_out_of_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusht, "LIMIT_S", 1.0)
    rollout = PushT(SPEC).run("push-t", 6)
    assert not rollout.success
    assert len(rollout.reward) == 10
    assert rollout.attributes["success_s"] is None


def test_what_it_cannot_record() -> None:
    with pytest.raises(UsageError, match="100 Hz"):
        PushT(RecordSpec(simulator="pusht", hz=30, segmentation_hz=0))
    with pytest.raises(UnknownNameError, match="push-t"):
        PushT(SPEC).contract(("push-tee",))
