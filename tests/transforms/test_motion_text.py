import pytest

from annotators.motion.labels import pose_axes
from transforms.motion_text import STILL, Axis, phrase, read_joint

ARM = (*pose_axes("", "base"), Axis("base", "base", "base"))


def say(code: list[int], order: list[int], **options) -> str:
    return phrase(ARM, tuple(code), tuple(order), **options)


def test_parts_come_strongest_first_and_translations_are_one_part() -> None:
    assert say([1, 1, 0, 0, 0, -1, -1, 0], [0, 1, 5, 6]) == "move arm forward and left, rotate clockwise, close gripper"
    assert say([1, 1, 0, 0, 0, -1, -1, 0], [6, 1, 0, 5]) == "close gripper, move arm left and forward, rotate clockwise"


def test_nothing_is_hold_still() -> None:
    assert say([0] * 8, []) == STILL


def test_a_sentence_has_at_most_three_parts() -> None:
    assert say([1, 0, 0, 1, 0, 0, 1, 1], [0, 3, 6, 7]) == "move arm forward, roll right, open gripper"
    assert say([1, 0, 0, 1, 0, 0, 1, 1], [7, 0, 3, 6], max_parts=2) == "drive forward, move arm forward"


def test_adverbs_follow_the_level() -> None:
    assert say([1, 1, 0, 0, 0, 0, 0, 0], [0, 1], levels=(0, -1, 0, 0, 0, 0, 0, 0)) == "move arm forward and slightly left"
    assert say([-1, 0, 0, 0, 0, 0, 0, 0], [0], levels=(1, 0, 0, 0, 0, 0, 0, 0)) == "move arm quickly backward"


def test_a_base_drives_and_turns() -> None:
    assert [say([0] * 7 + [c], [7]) for c in (1, -2, 3)] == ["drive forward", "drive right", "turn base left"]


def test_two_arms_are_told_apart() -> None:
    axes = (*pose_axes("left arm", "base"), *pose_axes("right arm", "base"))
    code = [0, 0, 1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 1, 1]
    assert phrase(axes, tuple(code), (2, 6, 12, 13), max_parts=4) == (
        "move left arm up, close left gripper, rotate right arm counterclockwise, open right gripper"
    )
    assert axes[6].name == "left.grip"


def test_camera_and_own_frames_have_their_own_words() -> None:
    camera, own = pose_axes("", "camera"), pose_axes("", "ee")
    assert phrase(camera, (0, -1, 1, 0, 0, 0, 0), (2, 1)) == "move arm away from the camera and up"
    assert phrase(own, (0, 0, -1, 0, 0, 1, 0), (2, 5)) == "move arm along its -z, turn about its +z"


@pytest.mark.parametrize(
    ("name", "label", "limb", "hand", "words"),
    [
        ("kLeftShoulderPitch", "left shoulder pitch", "arm", False, ("up", "down")),
        ("kRightElbow", "right elbow", "arm", False, ("up", "down")),
        ("kRightWristYaw", "right wrist yaw", "arm", False, ("right", "left")),
        ("kLeftHandThumbBend", "left hand thumb bend", "hand", True, ("negative", "positive")),
        ("left_wrist_rotate", "left wrist rotate", "arm", False, ("counterclockwise", "clockwise")),
        ("main_shoulder_pan.pos", "shoulder pan", "arm", False, ("right", "left")),
        ("right_hip_roll_joint", "right hip roll", "leg", False, ("counterclockwise", "clockwise")),
        ("waist", "waist", "torso", False, ("right", "left")),
        ("joint_3", "joint 3", "arm", False, ("negative", "positive")),
        ("motor_0", "motor 0", "arm", False, ("negative", "positive")),
        ("left_gripper", "left gripper", "hand", True, ("negative", "positive")),
    ],
)
def test_joint_names_are_read(name: str, label: str, limb: str, hand: bool, words: tuple[str, str]) -> None:
    joint = read_joint(name)
    assert joint is not None
    assert (joint.label, joint.limb, joint.hand, joint.words) == (label, limb, hand, words)


@pytest.mark.parametrize("name", ["x", "object_distance", "reward", "pitch", "0"])
def test_what_is_no_joint_is_not_made_one(name: str) -> None:
    assert read_joint(name) is None


def test_a_thumb_that_spreads_neither_opens_nor_closes() -> None:
    spread = read_joint("kRightHandThumbRotation")
    assert spread is not None
    assert spread.spread
