from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import savgol_filter

from transforms import grid as g
from transforms.rotation import conjugate, exp, log, multiply

SECOND = 1_000_000_000


def irregular(rng: np.random.Generator, steps: int) -> np.ndarray:
    return np.cumsum(rng.integers(20_000_000, 120_000_000, steps))


def test_resampling_is_interpolation_inside_each_episode() -> None:
    rng = np.random.default_rng(1)
    times = [irregular(rng, n) for n in (40, 1, 2, 77)]
    starts = np.concatenate([[0], np.cumsum([len(t) for t in times])])
    values = rng.normal(size=(3, starts[-1]))
    grid = g.make_grid(np.concatenate(times), starts, 30.0, 1.0)
    found = grid.linear(values)
    for e, t in enumerate(times):
        span = slice(grid.starts[e], grid.starts[e + 1])
        clock = np.arange(grid.starts[e + 1] - grid.starts[e]) / 30
        assert clock[-1] <= (t[-1] - t[0]) / SECOND + 1e-9 < clock[-1] + 1 / 30 + 1e-9
        truth = [np.interp(clock, (t - t[0]) / SECOND, row[starts[e] : starts[e + 1]]) for row in values]
        np.testing.assert_allclose(found[:, span], truth, atol=1e-6)
        nearest = np.clip(np.rint((t - t[0]) / SECOND * 30), 0, len(clock) - 1)
        assert (grid.sample[starts[e] : starts[e + 1]] - grid.starts[e] == nearest).all()
    assert list(grid.remaining()[grid.starts[1:] - 1]) == [0, 0, 0, 0]


def test_gaps_in_the_clock_are_marked() -> None:
    t = np.array([0, 100, 200, 1200, 1300]) * 1_000_000
    grid = g.make_grid(t, np.array([0, 5]), 10.0, 0.5)
    assert list(np.flatnonzero(grid.gap)) == list(range(2, 12))


def test_an_episode_does_not_change_with_its_neighbours() -> None:
    rng = np.random.default_rng(2)
    a, b = irregular(rng, 50), irregular(rng, 60) + 7
    alone = g.make_grid(b, np.array([0, 60]), 30.0, 1.0)
    both = g.make_grid(np.concatenate([a, b]), np.array([0, 50, 110]), 30.0, 1.0)
    tail = slice(both.starts[1], None)
    assert (both.left[tail] - 50 == alone.left).all()
    assert (both.weight[tail] == alone.weight).all()
    assert (both.sample[50:] - both.starts[1] == alone.sample).all()


@pytest.mark.parametrize("samples", [3, 9, 15])
def test_smoothing_is_savitzky_golay_per_episode(samples: int) -> None:
    rng = np.random.default_rng(3)
    lengths = [40, 15, 16, 4, 100]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.normal(size=(2, starts[-1]))
    found = g.smooth(values, starts, samples)
    for a, b in pairwise(starts):
        truth = savgol_filter(values[:, a:b], samples, min(2, samples - 1), mode="interp") if b - a >= samples else values[:, a:b]
        np.testing.assert_allclose(found[:, a:b], truth, atol=1e-12)


def test_smoothing_keeps_phase_and_parabolas() -> None:
    t = np.arange(60) / 30
    parabola = np.stack([3 * t**2 - t, 1 - t])
    np.testing.assert_allclose(g.smooth(parabola, np.array([0, 60]), 9), parabola, atol=1e-12)


def test_rotations_are_smoothed_as_by_the_log_map() -> None:
    rng = np.random.default_rng(4)
    t = np.arange(300) / 30
    q = multiply(exp(rng.normal(size=(3, 300)) * 0.02), exp(np.stack([np.sin(t), 0.5 * np.cos(2 * t), t])))
    q = g.continuous(q, np.array([0]))
    found = g.smooth_rotation(q, np.array([0, 300]), 9)
    weights = savgol_filter(np.eye(9)[4], 9, 2)
    for i in range(4, 296):
        window = q[:, i - 4 : i + 5]
        centre = q[:, i : i + 1].repeat(9, 1)
        tangent = (log(multiply(conjugate(centre), window)) * weights).sum(1, keepdims=True)
        truth = multiply(q[:, i : i + 1], exp(tangent))
        assert np.abs(log(multiply(conjugate(truth), found[:, i : i + 1]))).max() < 1e-3


def test_runs_begin_where_marked() -> None:
    first, length = g.runs(np.array([False, False, True, False, True]))
    assert first.tolist() == [0, 2, 4]
    assert length.tolist() == [2, 2, 1]
