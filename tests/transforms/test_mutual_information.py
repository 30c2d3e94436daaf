"""The nearest-neighbour estimator against the Gaussian closed form, and its ranking of clean and noisy demonstrations."""

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.mutual_information import batched_contributions, contributions, information, mean_by_group, standardised


def _pair(rho: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, e = rng.normal(size=(2, count, 1))
    return x, rho * x + np.sqrt(1 - rho**2) * e


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_gaussians_have_the_information_of_the_closed_form(rho):
    estimates = [information(*_pair(rho, 1024, seed)) for seed in range(4)]
    assert np.mean(estimates) == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.05)


def test_shuffled_actions_lose_the_information():
    x, y = _pair(0.9, 1024)
    assert information(x, y[np.random.default_rng(1).permutation(1024)]) < 0.1


def test_clean_demonstrations_rank_above_noisy_ones():
    rng = np.random.default_rng(2)
    state = rng.normal(size=(40, 60, 2))
    noise = np.repeat([0.05, 1.5], 20)[:, None, None]
    action = state[..., ::-1] + noise * rng.normal(size=state.shape)
    flat = batched_contributions(state.reshape(-1, 2), action.reshape(-1, 2), seed=3, batch=400, passes=2)
    score = mean_by_group(standardised(flat), np.repeat(np.arange(40), 60), 40)
    assert score[:20].min() > score[20:].max()


def test_scores_are_the_same_again_and_every_sample_has_one():
    x, y = _pair(0.5, 333)
    first = batched_contributions(x, y, seed=1, batch=100, passes=2)
    assert np.isfinite(first).all()
    assert first.shape == (333,)
    np.testing.assert_array_equal(first, batched_contributions(x, y, seed=1, batch=100, passes=2))
    assert (first != batched_contributions(x, y, seed=2, batch=100, passes=2)).any()


def test_too_few_samples_are_refused_and_absent_groups_have_no_score():
    with pytest.raises(UsageError, match="above 7"):
        contributions(np.zeros((7, 1)), np.zeros((7, 1)))
    assert np.isnan(mean_by_group(np.ones(2), np.array([0, 0]), 2)[1])
