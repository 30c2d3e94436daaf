"""Meta-World episodes: what is recorded agrees with itself, in words, in numbers and in pictures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipelines.record.metaworld import MetaWorld, to_base
from pipelines.record.rollout import Rollout
from pipelines.record.spec import RecordSpec
from schemas.contract import Camera, Contract
from schemas.errors import UnknownNameError, UsageError

TASK = "pick-place-v3"
SPEC = RecordSpec(simulator="metaworld", tasks=(TASK,), size=96, segmentation_hz=10, cameras=("front", "wrist"))


@pytest.fixture(scope="module")
def simulator(gl: str) -> Iterator[MetaWorld]:
    made = MetaWorld(SPEC)
    yield made
    made.close()


@pytest.fixture(scope="module")
def contract(simulator: MetaWorld) -> Contract:
    return simulator.contract((TASK,))


@pytest.fixture(scope="module")
def rollout(simulator: MetaWorld) -> Rollout:
    return simulator.run(TASK, 0)


def stream(rollout: Rollout, name: str) -> Any:
    return next(s.values for s in rollout.streams if s.name == name)


def test_the_expert_succeeds_and_the_episode_ends_soon_after(rollout: Rollout) -> None:
    assert rollout.success
    assert rollout.instruction == "pick up the puck and bring it to the goal"
    assert rollout.attributes["success_s"] + SPEC.settle_s == pytest.approx(len(rollout.reward) / SPEC.hz)
    assert np.diff(rollout.t_ns).tolist() == [50_000_000] * (len(rollout.reward) - 1)
    away = np.linalg.norm(stream(rollout, "object_pose.obj")[-1, :3] - stream(rollout, "goal_position")[0])
    assert away < 0.08


def test_every_view_has_a_picture_per_step_and_masks_at_their_own_rate(rollout: Rollout) -> None:
    count = len(rollout.reward)
    assert {c: f.shape for c, f in rollout.frames.items()} == dict.fromkeys(("front", "wrist"), (count, 96, 96, 3))
    assert rollout.masks["segmentation.front"].steps.tolist() == list(range(0, count, 2))
    assert all(f.std() > 20 for f in rollout.frames.values())


def test_the_state_is_a_pose_in_front_of_the_robot(rollout: Rollout) -> None:
    state = rollout.columns["observation.state"]
    assert state.dtype == np.float32
    assert ((state[:, 0] > 0.4) & (state[:, 0] < 1.0)).all()  # x is forward
    assert np.abs(state[:, 1]).max() < 0.3
    assert np.linalg.norm(state[:, 3:7], axis=1) == pytest.approx(1, abs=1e-5)
    assert (np.sum(state[1:, 3:7] * state[:-1, 3:7], axis=1) > 0.99).all()


def test_the_gripper_is_open_at_first_and_closes_when_told(rollout: Rollout, contract: Contract) -> None:
    openness, command = rollout.columns["observation.state"][:, 7], rollout.columns["action"][:, 3]
    part = contract.feature("action").parts[1]
    assert (part.gripper_open, part.gripper_closed) == (-1.0, 1.0)
    assert openness[0] > 0.95
    assert openness.min() < 0.5
    assert command[int(openness.argmin()) - 1] > 0.5


def test_actions_point_where_the_hand_goes(rollout: Rollout) -> None:
    """One unit is a centimetre per control step; the hand follows its target with a lag, in the same frame."""
    moved = np.diff(rollout.columns["observation.state"][:, :3], axis=0).sum(0)
    asked = rollout.columns["action"][:-1, :3].sum(0) * 0.01 * 4
    assert np.abs(rollout.columns["action"][:, :3]).max() <= SPEC.pace + 1e-6
    assert moved == pytest.approx(asked, abs=0.06)
    assert moved @ asked > 0.9 * np.linalg.norm(moved) * np.linalg.norm(asked)


def test_an_object_appears_where_its_pose_projects(rollout: Rollout, contract: Contract) -> None:
    """Pose, extrinsics, intrinsics, masks and colours come by different ways and have to meet at one pixel."""
    camera: Camera = next(c for c in contract.cameras if c.name == "front")
    assert camera.intrinsics is not None
    assert camera.extrinsics is not None
    to_camera = np.linalg.inv(np.reshape(camera.extrinsics, (4, 4)))
    number = next(int(k) for k, name in rollout.attributes["segments"].items() if name == "obj")
    masks, checked = rollout.masks["segmentation.front"], 0
    for step, mask in zip(masks.steps, masks.images, strict=True):
        rows, columns = np.nonzero(mask == number)
        if len(rows) < 4:
            continue
        point = to_camera[:3, :3] @ stream(rollout, "object_pose.obj")[step, :3] + to_camera[:3, 3]
        u, v, w = np.reshape(camera.intrinsics, (3, 3)) @ point
        assert (u / w, v / w) == pytest.approx((columns.mean(), rows.mean()), abs=2.5)
        red, green, _ = rollout.frames["front"][step][rows, columns].mean(0)
        assert red > 2 * green
        checked += 1
    assert checked >= 3


def test_a_scene_is_a_function_of_its_number(simulator: MetaWorld, rollout: Rollout) -> None:
    other = simulator.run(TASK, 1)
    again = simulator.run(TASK, 0)
    assert np.linalg.norm(stream(other, "object_pose.obj")[0, :3] - stream(rollout, "object_pose.obj")[0, :3]) > 0.005
    for name, values in rollout.columns.items():
        np.testing.assert_array_equal(again.columns[name], values)
    np.testing.assert_array_equal(again.frames["wrist"], rollout.frames["wrist"])


def test_a_recording_that_grew_is_ingested_again(contract: Contract) -> None:
    assert contract.standardise == ()  # a list that a recorder declared would be applied to the episodes that come next


def test_privileged_things_are_marked(contract: Contract) -> None:
    assert {c.name for c in contract.cameras if c.privileged} == {"segmentation.front", "segmentation.wrist"}
    sights = {f"{kind}.{camera}" for kind in ("camera_view", "hand_pixel") for camera in ("front", "wrist")}
    assert {s.name for s in contract.streams if s.privileged} == {"object_pose.obj", "goal_position"} | sights


def test_a_failed_attempt_is_recorded_as_one(gl: str) -> None:
    """At this pace the expert never gets the puck to move; the episode runs to the limit of 500 control steps."""
    slow = MetaWorld(RecordSpec(simulator="metaworld", hz=4, size=32, cameras=("front",), segmentation_hz=0, pace=0.1))
    try:
        rollout = slow.run("push-v3", 0)
    finally:
        slow.close()
    assert not rollout.success
    assert len(rollout.reward) == 25
    assert rollout.attributes["success_s"] is None


def test_a_misspelt_task_is_answered_with_its_neighbours(simulator: MetaWorld) -> None:
    with pytest.raises(UnknownNameError, match="drawer-open-v3"):
        simulator.contract(("drawer-opn-v3",))


def test_a_rate_that_does_not_divide_the_control_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="80 Hz"):
        MetaWorld(RecordSpec(simulator="metaworld", hz=30, segmentation_hz=0))


def test_turning_into_the_base_frame() -> None:
    """The arm's way out is +y in Meta-World's world and +x in `base`; signs of quaternions do not jump."""
    turned = to_base(np.array([[0.0, 1.0, 0.2, 1.0, 0.0, 0.0, 0.0], [0.3, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(turned[:, :3], [[1.0, 0.0, 0.2], [0.0, -0.3, 0.0]], atol=1e-12)
    half = 0.5**0.5
    np.testing.assert_allclose(turned[:, 3:], [[half, 0, 0, -half], [half, 0, 0, -half]], atol=1e-12)
