import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.labels import REASONS, StepLabels
from annotators.motion.language_motion import LanguageMotion
from schemas.contract import Camera, Contract, Feature, Part
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.motion import arm_contract, batch_of, make_trajectory, sample

RATES = (5, 10, 20, 30, 50)
SECOND = 1_000_000_000
MOTION = LanguageMotion()


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return MOTION

    @pytest.fixture
    def changed(self) -> Any:
        return LanguageMotion(LanguageMotionConfig(v_on=0.08, words=(("grip", "grasp with", "release"),)))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: sample([make_trajectory(s, 4.0) for s in range(4)], hz) for hz in (10, 20, 50)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = sample([make_trajectory(s, 4.0) for s in range(3)], 20)
        state = np.stack(whole.steps.column("observation.state").to_pylist()).T
        state[0, : whole.starts[1]] = np.nan
        return rebuilt(whole, state)


class TestEcotContract(TestContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return LanguageMotion(LanguageMotionConfig(rule="ecot_verbatim"))

    @pytest.fixture
    def changed(self) -> Any:
        return MOTION


def rebuilt(batch: Batch, state: np.ndarray) -> Batch:
    action = np.stack(batch.steps.column("action").to_pylist()).T
    columns = {"observation.state": state, "action": action}
    return batch_of(batch.contract, batch.t_ns, np.diff(batch.starts).tolist(), columns)


def labels(batch: Batch, annotator: LanguageMotion = MOTION) -> StepLabels:
    found = annotator.label(batch)
    assert isinstance(found, StepLabels)
    return found


def one(contract: Contract, hz: float, columns: dict[str, np.ndarray]) -> Batch:
    count = next(iter(columns.values())).shape[1]
    return batch_of(contract, np.rint(np.arange(count) * SECOND / hz).astype(np.int64), [count], columns)


def texts(batch: Batch, annotator: LanguageMotion = MOTION) -> list[str]:
    rows = check_output(annotator, batch, annotator.run(batch)).to_pylist()
    return [r["text"] or r["reason"] for r in rows]


def contract_of(*features: Feature, **options: Any) -> Contract:
    return Contract("one", "robot", "toy", 20.0, features=features, **options)


def ramp(hz: float, seconds: float, speed: float) -> np.ndarray:
    return np.arange(round(hz * seconds)) / hz * speed


# --- the rule on known motion ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinematic_traj() -> Callable[..., Batch]:
    """The same forty trajectories, sampled at the rate and with the noise asked for."""
    trajectories = [make_trajectory(seed) for seed in range(40)]
    return lambda hz, **noise: sample(trajectories, hz, **noise)


def at_shared_instants(batch: Batch, found: StepLabels, hz: int) -> tuple[np.ndarray, np.ndarray]:
    places = np.concatenate([np.arange(a, b, hz // 5) for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True)])
    return found.code[:, places], found.reason[places] == 0


def test_one_motion_gets_one_label_at_five_to_fifty_hertz(kinematic_traj: Callable[..., Batch]) -> None:
    ecot = LanguageMotion(LanguageMotionConfig(rule="ecot_verbatim"))
    agree: dict[str, list[float]] = {"rate": [], "ecot": []}
    for name, annotator in (("rate", MOTION), ("ecot", ecot)):
        codes = [at_shared_instants(b, labels(b, annotator), hz) for hz in RATES for b in [kinematic_traj(hz)]]
        valid = np.logical_and.reduce([v for _, v in codes])
        agree[name] = [float((codes[0][0] == c).all(0)[valid].mean()) for c, _ in codes[1:]]
    assert min(agree["rate"]) > 0.95
    assert max(agree["ecot"][1:]) < 0.6  # frames, not seconds: at 20 Hz and above the labels are others


def test_a_millimetre_and_a_degree_of_noise_change_little(kinematic_traj: Callable[..., Batch]) -> None:
    clean = labels(kinematic_traj(20))
    rms = {"noise_m": 0.001 * 3**-0.5, "noise_deg": 3**-0.5}
    noisy = labels(kinematic_traj(20, **rms))
    valid = clean.reason == 0
    assert (clean.code != noisy.code).any(0)[valid].mean() < 0.03


def test_codes_follow_the_known_velocities() -> None:
    t = np.arange(0, 6, 0.05)
    state = np.zeros((8, len(t)))
    state[3] = 1
    state[0] = np.clip(t - 1, 0, 1) * 0.2  # forward in [1, 2)
    state[2] = -np.clip(t - 3, 0, 1) * 0.2  # down in [3, 4)
    state[7] = 1 - np.clip((t - 4.6) / 0.3, 0, 1)  # closes at 4.6
    batch = one(arm_contract(20), 20, {"observation.state": state, "action": np.zeros((7, len(t)))})
    assert texts(batch) == [
        "hold still",
        "move arm forward",
        "hold still",
        "move arm down",
        "hold still",
        "close gripper",
        "hold still",
        "horizon_past_end",
    ]
    rows = MOTION.run(batch).to_pylist()
    assert rows[1]["code"] == [1, 0, 0, 0, 0, 0, 0, 0]
    assert rows[1]["axes"] == "x,y,z,rx,ry,rz,grip,base"
    assert rows[1]["rate"][0] == pytest.approx(0.15, abs=0.05)
    # the label at t is about [t, t + .6 s): it leads the motion by the window less what it takes to cross the threshold
    assert rows[1]["start_ns"] / SECOND == pytest.approx(1 - 0.6 + 0.05 / 0.2 * 0.6, abs=0.06)
    assert rows[1]["source"] == "proprio"
    assert (rows[-1]["end_ns"] - rows[-1]["start_ns"]) / SECOND == pytest.approx(0.6, abs=0.06)
    assert rows[-1]["text"] is None


def test_the_last_window_may_shrink() -> None:
    batch = sample([make_trajectory(0, 4.0)], 20)
    strict, shrunk = (
        sum(r["end_step"] - r["start_step"] for r in a.run(batch).to_pylist() if not r["valid"])
        for a in (MOTION, LanguageMotion(LanguageMotionConfig(boundary="shrink")))
    )
    assert (strict, shrunk) == (12, 4)


def test_an_episode_shorter_than_the_window_has_no_motion() -> None:
    assert texts(sample([make_trajectory(0, 0.4)], 20)) == ["horizon_past_end"]


def test_gaps_and_holes_are_told() -> None:
    batch = sample([make_trajectory(0, 4.0)], 20)
    late = batch.t_ns + np.where(np.arange(81) >= 40, SECOND, 0)
    state = np.stack(batch.steps.column("observation.state").to_pylist()).T
    action = np.stack(batch.steps.column("action").to_pylist()).T
    gapped = batch_of(batch.contract, late, [81], {"observation.state": state, "action": action})
    reasons = labels(gapped).reason
    assert {REASONS[r] for r in reasons} == {None, "clock_gap", "horizon_past_end"}
    assert (reasons[25:40] == REASONS.index("clock_gap")).all()
    state[5, 40] = np.nan
    holed = labels(rebuilt(batch, state)).reason
    assert np.flatnonzero(holed == REASONS.index("non_finite_input")).tolist() == pytest.approx(list(range(22, 48)), abs=1)


def test_pixels_that_pass_for_metres_are_noticed() -> None:
    batch = sample([make_trajectory(0, 3.0), make_trajectory(1, 3.0)], 20)
    state = np.stack(batch.steps.column("observation.state").to_pylist()).T
    state[:3, : batch.starts[1]] *= 400
    parts = tuple(replace(p, unit=None) for p in batch.contract.features[0].parts)
    unstated = replace(batch.contract, features=(replace(batch.contract.features[0], parts=parts), batch.contract.features[1]))
    reasons = labels(Batch(unstated, rebuilt(batch, state).steps)).reason
    assert {REASONS[r] for r in reasons[: batch.starts[1]]} == {"unit_implausible"}
    assert "unit_implausible" not in {REASONS[r] for r in reasons[batch.starts[1] :]}


# --- frames of reference --------------------------------------------------------------------------------------------------


def pose_batch(speed: tuple[float, float, float], quat: tuple[float, ...] = (1, 0, 0, 0), **options: Any) -> Batch:
    t = np.arange(60) / 20
    state = np.concatenate([np.outer(speed, t), np.tile(np.array(quat)[:, None], 60), np.ones((1, 60))])
    contract = replace(arm_contract(20, **options.pop("position", {})), **options)
    return one(contract, 20, {"observation.state": state, "action": np.zeros((7, 60))})


def test_base_axes_are_turned_forward_left_up() -> None:
    assert texts(pose_batch((0.2, 0, 0)))[0] == "move arm forward"
    assert texts(pose_batch((0.2, 0, 0), position={"frame": "base:rfu"}))[0] == "move arm right"
    assert texts(pose_batch((0, 0.2, 0), position={"frame": "base:rfu"}))[0] == "move arm forward"


def test_camera_frame_needs_a_calibrated_camera() -> None:
    motion = LanguageMotion(LanguageMotionConfig(frame_ref="camera"))
    assert texts(pose_batch((0.2, 0, 0)), motion) == ["no_extrinsics"]
    looking_forward = (
        0,
        0,
        1,
        0,
        -1,
        0,
        0,
        0,
        0,
        -1,
        0,
        0,
        0,
        0,
        0,
        1,
    )  # columns: camera x (right), y (down), z (ahead) in the base
    camera = Camera("front", extrinsics=tuple(float(v) for v in looking_forward))
    assert texts(pose_batch((0.2, 0, 0), cameras=(camera,)), motion)[0] == "move arm away from the camera"
    assert texts(pose_batch((0, 0.2, 0), cameras=(camera,)), motion)[0] == "move arm left"
    assert texts(pose_batch((0, 0, 0.2), cameras=(camera,)), motion)[0] == "move arm up"


def test_own_and_user_frames() -> None:
    half = 0.5**0.5
    own = LanguageMotion(LanguageMotionConfig(frame_ref="ee"))
    assert texts(pose_batch((0.2, 0, 0), (half, 0, 0, half)), own)[0] == "move arm along its -y"
    user = LanguageMotion(LanguageMotionConfig(frame_ref="user", user_rotation=(-1, 0, 0, 0, -1, 0, 0, 0, 1)))
    assert texts(pose_batch((0.2, 0, 0)), user)[0] == "move arm backward"  # the user faces the robot


def test_turns_are_told_in_the_frame_not_in_the_hand() -> None:
    t = np.arange(60) / 20
    upside_down = np.stack([0 * t, np.cos(t / 4), np.sin(t / 4), 0 * t])  # Rz(.5 t) after half a turn about x
    state = np.concatenate([np.zeros((3, 60)), upside_down, np.ones((1, 60))])
    batch = one(arm_contract(20), 20, {"observation.state": state, "action": np.zeros((7, 60))})
    assert texts(batch)[0] == "rotate counterclockwise"


# --- other sources --------------------------------------------------------------------------------------------------------


def test_commands_stand_in_where_there_is_no_proprioception() -> None:
    parts = (
        Part("ee_position", 0, 3, representation="delta", unit="m"),
        Part("ee_rotation", 3, 6, representation="delta", rotation="euler_xyz", unit="rad"),
        Part("gripper", 6, 7),
    )
    for hz in (10, 20):
        action = np.zeros((7, 3 * hz))
        action[1] = 0.2 / hz
        action[5] = -0.5 / hz
        batch = one(contract_of(Feature("action", "float32", (7,), role="action", parts=parts)), hz, {"action": action})
        row = MOTION.run(batch).to_pylist()[0]
        assert (row["text"], row["source"]) == ("move arm left, rotate clockwise", "action")
        assert row["rate"][:6] == pytest.approx([0, 0.2, 0, 0, 0, -0.5], abs=1e-3)


def test_normalised_commands_are_judged_by_full_scale() -> None:
    names = ("x", "y", "z", "gripper")
    feature = Feature("action", "float32", (4,), names, role="action", representation="normalised")
    action = np.zeros((4, 60))
    action[2] = -0.5
    action[3, 30:] = 1.0
    assert texts(one(contract_of(feature), 20, {"action": action}))[:2] == ["move arm down", "open gripper, move arm down"]


def test_end_effectors_are_recognised_by_name() -> None:
    names = ("x", "y", "z", "qw", "qx", "qy", "qz", "gripper")
    batch = pose_batch((0, 0, 0.2))
    feature = Feature("observation.state", "float32", (8,), names, role="state")
    assert texts(Batch(contract_of(feature), batch.steps))[0] == "move arm up"


def test_unknown_units_and_bare_vectors_say_so() -> None:
    pixels = Feature("observation.state", "float32", (3,), ("x", "y", "z"), role="state", unit="px")
    assert texts(one(contract_of(pixels), 20, {"observation.state": np.zeros((3, 40))})) == ["no_motion_source"]
    bare = Feature("observation.state", "float32", (3,), role="state")
    assert texts(one(contract_of(bare), 20, {"observation.state": np.zeros((3, 40))})) == ["no_motion_source"]


def test_joint_robots_are_told_joint_by_joint_from_their_targets() -> None:
    names = ("left_shoulder_pitch", "left_elbow", "right_elbow", "left_gripper")
    action, state = (
        Feature(n, "float32", (4,), names, role=r) for n, r in (("action", "action"), ("observation.state", "state"))
    )
    data = np.stack([ramp(20, 3, -0.4), ramp(20, 3, 0.6), ramp(20, 3, 0.3), 1 - ramp(20, 3, 0.3)])
    batch = one(contract_of(action, state), 20, {"action": data, "observation.state": 0 * data})
    row = MOTION.run(batch).to_pylist()[0]
    assert row["text"] == "left elbow down, close left gripper, left shoulder pitch up"
    assert row["axes"] == "left_shoulder_pitch,left_elbow,right_elbow,left_gripper"
    assert row["code"] == [-1, 1, 1, -1]  # the right arm does not compete with the left one
    assert (row["source"], row["frame_ref"]) == ("action", "joint")
    proprio = LanguageMotion(LanguageMotionConfig(source="proprio"))
    assert texts(batch, proprio)[0] == "hold still"
    degrees = replace(batch.contract, features=(replace(action, unit="deg"),))
    assert texts(Batch(degrees, batch.steps))[0] == "hold still"  # a degree a second, and a gripper told in degrees is no opening


def test_two_arms_and_a_base() -> None:
    pose = tuple(Part("ee_position", i, i + 3, unit="m") for i in (0, 3))
    state = Feature(
        "observation.state",
        "float32",
        (6,),
        ("left_x", "left_y", "left_z", "right_x", "right_y", "right_z"),
        role="state",
        parts=pose,
    )
    base = Feature("observation.base", "float32", (3,), role="base_pose")
    t = np.arange(60) / 20
    data = np.stack([0 * t, 0 * t, 0.2 * t, -0.1 * t, 0 * t, 0 * t])
    batch = one(
        contract_of(state, base),
        20,
        {"observation.state": data, "observation.base": np.stack([0 * t, 0.08 * t, 0 * t + np.pi / 2])},
    )
    row = MOTION.run(batch).to_pylist()[0]
    assert row["text"] == "move left arm up, move right arm backward, drive forward"
    assert len(row["code"]) == 15
    assert row["code"][-1] == 1


def test_ecot_needs_an_end_effector() -> None:
    feature = Feature("action", "float32", (2,), ("left_elbow", "right_elbow"), role="action")
    motion = LanguageMotion(LanguageMotionConfig(rule="ecot_verbatim"))
    assert texts(one(contract_of(feature), 20, {"action": np.zeros((2, 40))}), motion) == ["rule_needs_end_effector"]


# --- words and settings ---------------------------------------------------------------------------------------------------


def test_adverbs_and_words_change_the_text_not_the_code() -> None:
    batch = pose_batch((0.4, -0.08, 0))
    loud = LanguageMotion(LanguageMotionConfig(adverbs=True, share=0.1, words=(("y", "to the right", "to the left"),)))
    plain = LanguageMotion(LanguageMotionConfig(share=0.1))
    assert texts(batch, loud)[0] == "move arm quickly forward and slightly to the right"
    assert loud.run(batch).column("code").equals(plain.run(batch).column("code"))
    with pytest.raises(UsageError, match="knee"):
        LanguageMotion(LanguageMotionConfig(words=(("knee", "a", "b"),))).run(batch)


def test_settings_come_as_text_from_the_command_line() -> None:
    found = LanguageMotion.from_settings(
        {"v_on": "0.08", "adverbs": "true", "rule": "rate", "camera": "front", "max_parts": "2"}
    ).config
    assert (found.v_on, found.adverbs, found.rule, found.camera, found.max_parts) == (0.08, True, "rate", "front", 2)
    for wrong, what in (
        ({"v_onn": "1"}, "v_onn"),
        ({"v_on": "fast"}, "v_on"),
        ({"rule": "rat"}, "rat"),
        ({"adverbs": "3"}, "bool"),
        ({"frame_ref": "user"}, "user_rotation"),
    ):
        with pytest.raises(UsageError, match=what):
            LanguageMotion.from_settings(wrong)


# --- real recordings ------------------------------------------------------------------------------------------------------


def real_g1(data: Path) -> Batch:
    folder = data / "lerobot" / "g1_v30_3ep"
    info = json.loads((folder / "meta" / "info.json").read_text())
    table = pq.read_table(io.BytesIO((folder / "data" / "chunk-000" / "file-000.parquet").read_bytes()))
    features = tuple(
        Feature(n, "float32", (26,), tuple(info["features"][n]["names"][0]), role=r)
        for n, r in (("observation.state", "state"), ("action", "action"))
    )
    columns = {f.name: np.stack(table.column(f.name).to_pylist()).T for f in features}
    sizes = np.bincount(table.column("episode_index").to_numpy()).tolist()
    t_ns = np.rint(table.column("timestamp").to_numpy().astype(np.float64) * SECOND).astype(np.int64)
    return batch_of(Contract("g1", "robot", "Unitree_G1_Inspire", 30.0, features=features), t_ns, sizes, columns)


def test_a_real_humanoid_is_told_by_its_joints(data: Path) -> None:
    batch = real_g1(data)
    rows = check_output(MOTION, batch, MOTION.run(batch)).to_pylist()
    assert len(batch.episodes) == 3
    assert batch.steps.num_rows == 748
    spoken = [r for r in rows if r["valid"]]
    assert len(spoken) == 60
    assert {r["reason"] for r in rows if not r["valid"]} == {"horizon_past_end"}
    assert all(r["source"] == "action" and r["frame_ref"] == "joint" and len(r["code"]) == 16 for r in spoken)
    words = " ".join(r["text"] for r in spoken)
    # what the recordings show: the right arm works, the left one waits
    assert "left shoulder" not in words
    assert "left hand" not in words
    assert "close right hand" in words
    assert "open right hand" in words
    assert "right elbow down" in words
    still = sum(r["end_step"] - r["start_step"] for r in spoken if r["text"] == "hold still") / 694
    assert 0.2 < still < 0.4


def test_the_real_hand_closes_when_its_fingers_do(data: Path) -> None:
    batch = real_g1(data)
    action = np.stack(batch.steps.column("action").to_pylist())
    for row in MOTION.run(batch).to_pylist():
        if row["valid"] and row["code"][-1]:
            first = int(batch.starts[batch.episodes.index(row["episode_id"])])
            fingers = action[first + row["start_step"] : first + row["end_step"] + 18, 20:25].mean(1)
            assert np.sign(fingers[-1] - fingers[0]) == row["code"][-1]
