"""ECoT's rule as published, defects included: these are the numbers the `rate` rule is held against."""

import numpy as np

from transforms.ecot import ecot_codes, ecot_text


def code(*moves: tuple[int, float], start: tuple[tuple[int, float], ...] = ()) -> np.ndarray:
    """Code of the first of four states that go from `start` to `moves` in one step."""
    state = np.zeros((7, 4))
    for axis, value in start:
        state[axis, 0] = value
    for axis, value in moves:
        state[axis, 1:] = value
    return ecot_codes(state, np.array([0, 4]))[:, 0]


def test_small_and_plain_moves_are_told_as_published() -> None:
    assert ecot_text(code((0, 0.05))) == "move forward"
    assert ecot_text(code((0, 0.04), (1, -0.04))) == "move forward right"
    assert ecot_text(code((4, 0.4))) == "tilt up"
    assert ecot_text(code((5, -0.4), (6, 0.5))) == "rotate clockwise, open gripper"
    assert ecot_text(code()) == "stop"


def test_defect_a_twenty_centimetre_diagonal_is_a_stop() -> None:
    assert ecot_text(code((0, 0.2), (1, 0.2), (2, 0.2))) == "stop"


def test_defect_only_more_than_a_third_of_the_path_counts() -> None:
    assert ecot_text(code((0, 0.20), (1, 0.15), (2, 0.10))) == "move forward"


def test_defect_a_yaw_through_pi_is_a_strong_turn_the_other_way() -> None:
    assert ecot_text(code((5, -3.1), start=((5, 3.1),))) == "rotate clockwise"  # in truth +.083 rad


def test_defect_the_threshold_grows_with_the_frame_rate() -> None:
    for hz, speed, told in ((5, 0.06, "move forward"), (20, 0.06, "stop"), (50, 0.45, "stop")):
        state = np.zeros((7, 20))
        state[0] = np.arange(20) / hz * speed
        assert ecot_text(ecot_codes(state, np.array([0, 20]))[:, 0]) == told


def test_windows_end_with_the_episode_and_the_last_step_repeats() -> None:
    state = np.zeros((7, 6))
    state[0] = [0, 1, 2, 0, 0, 0.5]
    codes = ecot_codes(state, np.array([0, 3, 6]))
    assert codes[0].tolist() == [1, 1, 1, 1, 1, 1]
    assert ecot_codes(state[:, :1], np.array([0, 1])).tolist() == [[0]] * 7
