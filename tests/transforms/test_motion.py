import numpy as np
import pytest

from schemas.errors import UsageError
from transforms import motion as m
from transforms.grid import make_grid
from transforms.rotation import exp, from_euler

RULE = m.RateRule()
ARM = m.Thresholds(np.full(3, 0.05), np.zeros(3, int), np.full(3, 0.6), 0.25)


def signs(rates: list[list[float]], limits: m.Thresholds = ARM, starts: tuple[int, ...] = ()) -> np.ndarray:
    data = np.array(rates, float)
    edges = np.array([*(starts or (0,)), data.shape[1]])
    return m.decide(data, m.needs(data, limits), limits, edges, np.ones(data.shape[1], bool))


def test_a_fast_diagonal_of_equal_shares_moves_on_every_axis() -> None:
    assert signs([[0.2], [0.2], [0.2]]).T.tolist() == [[1, 1, 1]]  # ECoT says "stop"


def test_axes_need_a_quarter_of_the_path_not_a_third() -> None:
    assert signs([[0.20], [0.15], [0.10]]).T.tolist() == [[1, 1, 0]]  # ECoT says "forward" only; .10 is .22 of .45
    assert signs([[0.20], [-0.15], [0.12]]).T.tolist() == [[1, -1, 1]]


def test_a_stretch_is_on_down_to_sixty_percent_on_both_sides_and_never_through_zero() -> None:
    rate = [0.029, 0.04, 0.06, 0.04, 0.031, 0.029, 0.04, -0.06, -0.04, 0.04]
    assert signs([rate, [0] * 10, [0] * 10])[0].tolist() == [0, 1, 1, 1, 1, 0, 0, -1, -1, 0]


def test_hysteresis_does_not_reach_into_the_next_episode() -> None:
    assert signs([[0.06, 0.04], [0, 0], [0, 0]], starts=(0, 1))[0].tolist() == [1, 0]


def test_many_axes_below_their_share_leave_the_strongest_on() -> None:
    limits = m.Thresholds(np.full(7, 0.25), np.zeros(7, int), np.full(7, 0.6), 0.25)
    rates = np.full((7, 1), 0.3)
    rates[4] = -0.35
    found = m.decide(rates, m.needs(rates, limits), limits, np.array([0, 1]), np.ones(1, bool))
    assert found[:, 0].tolist() == [0, 0, 0, 0, -1, 0, 0]
    assert not m.decide(rates / 2, m.needs(rates / 2, limits), limits, np.array([0, 1]), np.ones(1, bool)).any()


def test_groups_do_not_compete() -> None:
    limits = m.Thresholds(np.full(3, 0.05), np.array([0, 1, m.FREE]), np.full(3, 0.6), 0.25)
    assert signs([[1.0], [0.06], [0.06]], limits).T.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_decide_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = np.cumsum(rng.normal(size=(5, 300)), 1) * 0.02
    limits = m.Thresholds(
        np.array([0.05, 0.05, 0.05, 0.1, 0.2]), np.array([0, 0, 0, m.FREE, 1]), np.array([0.6, 0.6, 0.6, 1.0, 0.3]), 0.25
    )
    starts, ok = np.array([0, 120, 300]), rng.random(300) > 0.1
    need = m.needs(rates, limits)
    found = m.decide(rates, need, limits, starts, ok)
    for a in range(5):
        way = [int(np.sign(rates[a, i])) if ok[i] and abs(rates[a, i]) > need[a, i] * limits.off[a] else 0 for i in range(300)]
        for i in range(300):
            lo, hi = i, i
            while lo > 0 and lo not in starts and way[lo - 1] == way[i]:
                lo -= 1
            while hi + 1 < 300 and hi + 1 not in starts and way[hi + 1] == way[i]:
                hi += 1
            loud = any(ok[k] and abs(rates[a, k]) > need[a, k] for k in range(lo, hi + 1))
            assert found[a, i] == (way[i] if loud else 0)


@pytest.mark.parametrize("seed", range(3))
def test_deciding_is_the_same_backwards(seed: int) -> None:
    rates = np.cumsum(np.random.default_rng(seed).normal(size=(3, 200)), 1) * 0.02
    limits = m.Thresholds(np.full(3, 0.05), np.zeros(3, int), np.full(3, 0.6), 0.25)
    starts, ok = np.array([0, 200]), np.ones(200, bool)
    there = m.decide(rates, m.needs(rates, limits), limits, starts, ok)
    back = m.decide(-rates[:, ::-1], m.needs(-rates[:, ::-1], limits), limits, starts, ok)
    assert (there == -back[:, ::-1]).all()


def test_short_pauses_are_bridged_and_short_runs_dropped() -> None:
    line = "1111110111111000111110000000110000000-------0111111"
    data = np.array([[{"1": 1, "0": 0, "-": -1}[c] for c in line]], np.int8)
    found = m.clean(data, np.array([0, data.shape[1]]), min_samples=6, merge_samples=5)
    told = "".join({1: "1", 0: "0", -1: "-"}[int(v)] for v in found[0])
    assert told == "111111111111111111111000000000000000" + "0-------0111111"


def test_cleaning_keeps_episodes_and_axes_apart() -> None:
    data = np.array([[1, 1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]], np.int8)
    whole = m.clean(data, np.array([0, 8]), min_samples=4, merge_samples=3)
    split = m.clean(data, np.array([0, 4, 8]), min_samples=4, merge_samples=3)
    assert whole.tolist() == [[1] * 8, [1] * 8]
    assert split.tolist() == [[0] * 8, [1] * 8]


def test_yaw_through_pi_is_a_small_turn() -> None:
    yaw = np.array([3.1, -3.1])
    q = from_euler(np.stack([np.zeros(2), np.zeros(2), yaw]))
    grid = make_grid(np.array([0, 600_000_000]), np.array([0, 2]), 1 / 0.6, 1.0)
    turn = m.angular_velocities(q, m.make_windows(grid, m.RateRule(rate_hz=1 / 0.6)))[:, 0] * 0.6
    np.testing.assert_allclose(turn, [0, 0, 2 * np.pi - 6.2], atol=1e-9)  # +.083 rad; ECoT sees -6.2


def test_velocity_is_told_in_the_body_where_asked() -> None:
    grid = make_grid(np.arange(31) * 33_333_334, np.array([0, 31]), 30.0, 1.0)
    windows = m.make_windows(grid, RULE)
    quarter = exp(np.array([[0.0], [0.0], [np.pi / 2]])).repeat(grid.size, 1)
    p = np.stack([np.arange(grid.size) / 30 * 0.2, np.zeros(grid.size), np.zeros(grid.size)])
    np.testing.assert_allclose(m.velocities(p, windows)[:, 0], [0.2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(m.body_velocities(p, quarter, windows)[:, 0], [0, -0.2, 0], atol=1e-9)


def test_the_end_of_an_episode_is_marked_or_the_window_shrinks() -> None:
    t = np.arange(61) * 33_333_334
    grid = make_grid(np.concatenate([t, t]), np.array([0, 61, 122]), 30.0, 1.0)
    strict = m.make_windows(grid, RULE)
    assert strict.past_end.reshape(2, -1).sum(1).tolist() == [18, 18]
    shrunk = m.make_windows(grid, m.RateRule(boundary="shrink"))
    assert shrunk.past_end.reshape(2, -1).sum(1).tolist() == [6, 6]
    ramp = np.tile(np.arange(grid.size // 2) / 30.0, 2)[None]
    np.testing.assert_allclose(m.velocities(ramp, shrunk)[0, ~shrunk.past_end], 1.0)


def test_windows_know_the_marks_they_touch() -> None:
    t = np.arange(61) * 33_333_334
    grid = make_grid(np.concatenate([t, t]), np.array([0, 61, 122]), 30.0, 1.0)
    marks = np.zeros(grid.size, bool)
    marks[30] = True
    touched = np.flatnonzero(m.make_windows(grid, RULE).touch(marks, grid, 4))
    assert touched.tolist() == list(range(30 - 18 - 4, 30 + 5))


def test_margin_is_the_distance_to_the_threshold_in_force() -> None:
    # off; then a stretch that is on because of its fastest sample; then one that stays off because none of it passed .05
    rates = np.array([[0.02, 0.04, 0.08, 0.035, 0.02, 0.04, 0.045]])
    limits = m.Thresholds(np.array([0.05]), np.array([m.FREE]), np.array([0.6]), 0.25)
    need, starts = m.needs(rates, limits), np.array([0, 7])
    signs = np.array([[0, 1, 1, 1, 0, 0, 0]], np.int8)
    found = m.margins(rates, need, limits.off, signs, starts)
    np.testing.assert_allclose(found, [0.6, 1 / 3, 0.6, 1 / 6, 0.6, 0.1, 0.1])
    apart = m.margins(rates, need, limits.off, signs, np.array([0, 2, 7]))
    np.testing.assert_allclose(apart[1], 0.2)  # the fastest sample of its own episode is itself


def test_a_base_is_told_by_its_strongest_motion() -> None:
    code, rate = m.fold_base(
        np.array([[1, 0, 1], [0, 0, 0], [0, 0, -1]], np.int8),
        np.array([[0.1, 0, 0.06], [0, 0, 0], [0, 0, -0.5]]),
        np.array([0.05, 0.05, 0.1]),
    )
    assert code.tolist() == [[1, 0, -3]]
    assert rate[0, [0, 2]].tolist() == [0.1, -0.5]


@pytest.mark.parametrize("wrong", [{"v_on": 0.0}, {"share": 1.5}, {"min_s": -1.0}, {"boundary": "clip"}])
def test_impossible_thresholds_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        m.RateRule(**wrong)
