import numpy as np

from transforms import cues

HZ = 10.0


def test_a_gripper_that_flickers_moves_once() -> None:
    opening = np.concatenate([np.ones(10), np.linspace(1, 0.5, 5), np.linspace(0.5, 0, 5), np.zeros(10), np.ones(8)])
    moves = cues.gripper_moves(opening, HZ)
    assert [round(change, 2) for *_, change in moves] == [-1.0, 1.0]
    assert moves[0][0] == 10 - 1 or moves[0][0] == 10
    held = cues.holding(opening, moves)
    assert held[21:29].all()
    assert not held[:18].any()
    assert not held[31:].any()


def test_noise_and_drift_are_no_moves() -> None:
    drift = np.linspace(1, 0.2, 100)
    assert cues.gripper_moves(drift, HZ) == []
    assert cues.gripper_moves(1 - 0.04 * (np.arange(50) % 2), HZ) == []


def test_stops_last_and_minima_are_low() -> None:
    speed = np.array([1, 1, 0, 0, 0, 0, 1, 0.2, 1, 0.6, 1, 0, 1.0])
    assert cues.stops(speed, HZ, 0.1, 0.3) == [(2, 6)]
    assert cues.minima(speed, 0.3).tolist() == [3, 7, 11]
    assert cues.peaks(np.array([0, 5, 0, 1, 0, 3.0]), 2).tolist() == [1]


def test_jerk_of_a_cubic_is_its_third_derivative() -> None:
    t = np.arange(20) / HZ
    found = cues.jerk(np.stack([t**3, 0 * t]), HZ)
    np.testing.assert_allclose(found[2:-2], 6.0, rtol=1e-9)
    assert (found[[0, 1, -1]] == 0).all()


def test_only_what_moves_along_is_attached() -> None:
    t = np.arange(40) / HZ
    hand = np.stack([0.2 * t, 0 * t, 0 * t])
    carried = hand + np.array([[0.0], [0.0], [-0.02]])
    passed = np.stack([1 - 0.2 * t, 0 * t, 0 * t])
    assert cues.attached(hand, carried, HZ).all()
    assert not cues.attached(hand, passed, HZ).any()
    assert not cues.attached(hand, 0 * hand, HZ).any()


def test_close_cues_add_up_and_one_boundary_stays() -> None:
    found = cues.score(30, [(np.array([10, 11]), 1.0), (np.array([10]), 0.5), (np.array([20, 0]), 0.4)], HZ)
    assert np.flatnonzero(found).tolist() == [10, 20]
    assert found[10] == 1.5
    assert found[20] == 0.4
