"""Density ratios against a known truth: a target mode next to a denser near-miss mode of the prior."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from schemas.errors import UsageError
from transforms.density import density_ratio
from transforms.resampling import effective_size

DIMS, TARGETS, PRIORS = 8, 200, 8_000


def log_normal(points, mean, width):
    return -0.5 * ((points - mean) ** 2).sum(1) / width**2 - DIMS * np.log(width)


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    goal, miss = np.zeros(DIMS), np.zeros(DIMS)
    goal[0], miss[0] = 1.5, 0.9
    target = rng.normal(size=(TARGETS, DIMS)) * 0.6 + goal
    dense = rng.random(PRIORS) < 0.9
    prior = np.where(dense[:, None], rng.normal(size=(PRIORS, DIMS)) * 0.6 + miss, rng.normal(size=(PRIORS, DIMS)) * 1.2)
    mixed = np.logaddexp(np.log(0.9) + log_normal(prior, miss, 0.6), np.log(0.1) + log_normal(prior, 0, 1.2))
    return target, prior, log_normal(prior, goal, 0.6) - mixed


def test_only_ratios_know_how_common_a_point_is(task):
    target, prior, truth = task
    found = {b: density_ratio(target, prior, b) for b in ("clf", "kde", "nn")}
    rank = {b: spearmanr(r.log_ratio, truth).statistic for b, r in found.items()}
    assert rank["clf"] > 0.85
    assert rank["clf"] > rank["kde"] + 0.05
    assert rank["kde"] > rank["nn"]
    best = {b: truth[np.argsort(-r.log_ratio)[:400]].mean() for b, r in found.items()}
    ceiling = np.sort(truth)[-400:].mean()
    assert best["clf"] > 0.75 * ceiling
    assert best["nn"] < best["kde"] < best["clf"]


def test_weights_have_mean_one_and_move_the_prior_towards_the_target(task):
    target, prior, _ = task
    for backend in ("clf", "kde"):
        found = density_ratio(target, prior, backend)
        weights = np.exp(found.log_ratio)
        assert weights.mean() == pytest.approx(1)
        assert found.ess == pytest.approx(effective_size(weights, np.ones(PRIORS)))
        assert found.residual < 0.6 * found.unweighted
        gap = (weights @ prior / PRIORS - target.mean(0)) / prior.std(0)
        assert found.residual == pytest.approx(np.sqrt(np.mean(gap**2)))
    assert density_ratio(target, prior).residual < 0.25 * density_ratio(target, prior).unweighted


def test_the_adversarial_twin_same_distribution_gets_no_weight():
    """Where target and prior are one distribution there is nothing to find, and cross-fitting does not find it."""
    rng = np.random.default_rng(1)
    target, prior = rng.normal(size=(300, 6)), rng.normal(size=(3_000, 6))
    found = density_ratio(target, prior)
    assert found.ess > 0.75 * 3_000
    assert abs(spearmanr(found.log_ratio, prior[:, 0]).statistic) < 0.75
    assert density_ratio(target + 2, prior).ess < 0.3 * 3_000


def test_scale_and_repetition_change_nothing(task):
    target, prior, _ = task
    first = density_ratio(target, prior[:2_000])
    assert np.array_equal(first.log_ratio, density_ratio(target, prior[:2_000]).log_ratio)
    scaled = density_ratio(target * 1_000 + 7, prior[:2_000] * 1_000 + 7)
    assert scaled.log_ratio == pytest.approx(first.log_ratio, abs=1e-3)


def test_refusals():
    with pytest.raises(UsageError, match=r"not \[3, 2\] and \[4, 3\]"):
        density_ratio(np.zeros((3, 2)), np.zeros((4, 3)))
    with pytest.raises(UsageError, match="not finite"):
        density_ratio(np.zeros((3, 1)), np.array([[0.0], [np.nan]]))
    with pytest.raises(UsageError, match="at least two points"):
        density_ratio(np.zeros((1, 1)), np.zeros((4, 1)))
