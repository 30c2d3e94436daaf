import json

import numpy as np
import pytest

from schemas.errors import UsageError
from tests.transforms.codec.test_fast import smooth
from transforms.codec.base import Tokens
from transforms.codec.beast import RIDGE, BeastCodec
from transforms.codec.spline import basis, through


def de_boor(x: float, knots: np.ndarray, points: np.ndarray, degree: int) -> float:
    """Evaluate a B-spline by de Boor's recursion, point by point."""
    k = min(max(int(np.searchsorted(knots, x, side="right")) - 1, degree), len(points) - 1)
    d = [float(points[j + k - degree]) for j in range(degree + 1)]
    for r in range(1, degree + 1):
        for j in range(degree, r - 1, -1):
            left, right = knots[j + k - degree], knots[j + 1 + k - r]
            alpha = (x - left) / (right - left)
            d[j] = (1 - alpha) * d[j - 1] + alpha * d[j]
    return d[degree]


def test_the_basis_is_that_of_de_boor() -> None:
    points = np.random.default_rng(0).normal(size=10)
    knots = np.r_[np.zeros(3), np.linspace(0, 1, 8), np.ones(3)]
    curve = basis(50, 10) @ points
    assert np.abs(curve - [de_boor(x, knots, points, 3) for x in np.linspace(0, 1, 50)]).max() < 1e-12
    assert np.abs(basis(50, 10).sum(1) - 1).max() < 1e-12
    assert (curve[0], curve[-1]) == pytest.approx((points[0], points[-1]))


def test_control_points_are_the_ridge_solution() -> None:
    x = smooth(3, 1, 50, 2)
    codec = BeastCodec(50, 2, 10)
    # ridge regression is least squares with sqrt(lambda) I below the design
    rows = np.concatenate([basis(50, 10), np.sqrt(RIDGE) * np.eye(10)])
    targets = np.concatenate([x.transpose(1, 0, 2).reshape(50, -1), np.zeros((10, 6))])
    want = np.linalg.lstsq(rows, targets, rcond=None)[0]
    assert np.abs(codec.fit(x).transpose(0, 2, 1).reshape(-1, 10) - want.T).max() < 1e-8


def test_smooth_motion_takes_few_tokens_and_switches_are_exact() -> None:
    x = smooth(100, 2, 50, 4)
    x[:, :, 3] = np.where(x[:, :, 3] > 0, 1.0, -1.0)
    codec = BeastCodec(50, 4, 10, switches=(3,))
    tokens = codec.encode(x)
    got, ok = codec.decode(tokens)
    assert ok.all()
    assert tokens.counts.tolist() == [3 * 10 + 7] * 100
    assert codec.bound.holds(x, got).all()
    assert np.array_equal(got[:, :, 3], x[:, :, 3])
    assert tokens.ids.max() < codec.size


def test_quantisation_moves_the_curve_by_half_a_bin_at_most() -> None:
    points = np.random.default_rng(3).uniform(-2, 2, (200, 8, 3))
    codec = BeastCodec(30, 3, 8)
    moved = basis(30, 8) @ codec.points_of(codec.levels_of(points)) - basis(30, 8) @ points
    assert 0.6 * codec.half_bin < np.abs(moved).max() <= codec.half_bin * (1 + 1e-9)
    assert np.array_equal(codec.levels_of(codec.points_of(np.arange(256)[:, None, None])), np.arange(256)[:, None, None])


def test_what_a_spline_cannot_follow_misses_the_bound() -> None:
    noise = np.random.default_rng(4).uniform(-1, 1, (20, 50, 2))
    codec = BeastCodec(50, 2, 5)
    got, ok = codec.decode(codec.encode(noise))
    assert ok.all()
    assert not codec.bound.holds(noise, got).any()
    assert not codec.bound.proven


def test_chunks_may_join_without_a_jump() -> None:
    x = smooth(1, 5, 100, 3)[0]
    codec = BeastCodec(25, 3, 8)
    before, curves, free = x[:1], [], []
    for chunk in np.split(x, 4):
        points = codec.points_of(codec.levels_of(codec.fit_after(chunk[None], before)))
        curve = codec.curve_after(points, before)
        curves.append(curve[0])
        free.append(codec.decode(codec.encode(chunk[None]))[0][0])
        before = curve[:, -1]
    joined, apart = np.concatenate(curves), np.concatenate(free)
    assert np.abs(joined - x).max() < 0.05
    seams = [25, 50, 75]
    true = np.abs(np.diff(x, axis=0))[[s - 1 for s in seams]].max()
    assert np.abs(np.diff(joined, axis=0))[[s - 1 for s in seams]].max() < true + 0.02
    assert np.abs(apart - x).max() < 0.05


def test_a_chunk_that_cannot_be_read_is_no_number() -> None:
    codec = BeastCodec(16, 2, 5, switches=(1,))
    good = codec.encode(smooth(1, 6, 16, 2))[0].tolist()
    got, ok = codec.decode(Tokens.of([good, good[:-1], [256, *good[1:]], []]))
    assert ok.tolist() == [True, False, False, False]
    assert np.isnan(got[1:]).all()
    assert np.isfinite(got[0]).all()
    assert BeastCodec.from_dict(json.loads(json.dumps(codec.to_dict()))) == codec
    for options in ({"points": 3}, {"points": 40}, {"points": 5, "switches": (2,)}, {"points": 5, "reach": 0.5}):
        with pytest.raises(UsageError):
            BeastCodec(16, 2, **options)  # type: ignore[arg-type]


def test_a_spline_through_points_passes_them() -> None:
    places, values = np.array([0.0, 1.0, 2.5, 4.0, 5.0]), np.random.default_rng(7).normal(size=(5, 3))
    assert np.abs(through(places, values, places) - values).max() < 1e-12
    line = through(places[:2], values[:2], np.array([0.25]))
    assert np.allclose(line, 0.75 * values[:1] + 0.25 * values[1:2])
    assert np.allclose(through(places[:1], values[:1], np.array([0.0, 9.0])), values[:1])
