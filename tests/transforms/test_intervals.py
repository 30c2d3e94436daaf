"""Intervals against published figures and coverage; agreement and calibration against closed forms."""

import math

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.agreement import cohen_kappa
from transforms.calibration import calibration_error
from transforms.intervals import paired_mean, share_difference, wilson


def test_wilsons_interval_is_its_formula():
    z, won, played = 1.959963984540054, 7, 20
    share, extra = won / played, z * z / played
    half = z * math.sqrt(share * (1 - share) / played + extra / played / 4)
    expected = [(share + extra / 2 + sign * half) / (1 + extra) for sign in (-1, 1)]
    assert wilson(won, played) == pytest.approx(expected)
    assert wilson(0, 0) == (0.0, 1.0)


def test_differences_of_shares_are_newcombes_examples():
    """Table II of Newcombe (1998), method 10: (a) 56/70 - 48/80, (d) 9/10 - 3/10, (h) 10/10 - 0/10."""
    assert share_difference((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert share_difference((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert share_difference((10, 10), (0, 10)) == pytest.approx((0.6075, 1.0), abs=5e-5)
    assert share_difference((1, 1), (0, 0)) == (-1.0, 1.0)


def test_the_interval_of_paired_differences_covers_its_mean():
    rng = np.random.default_rng(0)
    hits = [low <= 0.3 <= high for _ in range(400) for low, high in [paired_mean(list(0.3 + rng.normal(size=8)))[1]]]
    assert 0.92 < np.mean(hits) < 0.98
    assert paired_mean([0.4]) == (0.4, None)
    assert math.isnan(paired_mean([])[0])


def test_kappa_by_hand():
    """Two readers of 50 cases: both yes 20, both no 15, apart 5 and 10: kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1
    assert cohen_kappa(["a"], ["a"]) == 1
    assert cohen_kappa(["yes", "no"] * 20, ["yes", "yes", "no", "no"] * 10) == pytest.approx(0), "chance"
    with pytest.raises(UsageError, match="same items"):
        cohen_kappa(["a"], [])


def test_calibration_error_by_hand():
    said, right = np.array([0.9] * 10 + [0.2] * 10), np.array([True] * 6 + [False] * 4 + [True] * 2 + [False] * 8)
    assert calibration_error(said, right) == pytest.approx(0.5 * 0.3)
    assert calibration_error(right.astype(float), right) == 0
