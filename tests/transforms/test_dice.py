"""Distribution correction on a tabular problem whose best policy a linear program knows, and the orthogonal gradient."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from transforms.dice import MOST, advantage, conjugate, density_ratio, orthogonal, policy_weight

STATES, ACTIONS, GAMMA = 5, 2, 0.9


def _world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A chain: action 1 goes right, action 0 left; reward for acting right at the last state; starts anywhere but prefers the left."""
    after = np.array([[max(s - 1, 0), min(s + 1, STATES - 1)] for s in range(STATES)])
    reward = np.zeros((STATES, ACTIONS))
    reward[-1, 1] = 1
    start = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    return after, reward, start


def _best_occupancy(after, reward, start) -> np.ndarray:
    flow = np.zeros((STATES, STATES * ACTIONS))
    for s in range(STATES):
        for a in range(ACTIONS):
            flow[s, s * ACTIONS + a] += 1
            flow[after[s, a], s * ACTIONS + a] -= GAMMA
    found = linprog(-reward.reshape(-1), A_eq=flow, b_eq=(1 - GAMMA) * start)
    return found.x.reshape(STATES, ACTIONS)


def test_the_ratio_turns_the_data_into_the_best_occupancy():
    after, reward, start = _world()
    data = np.full((STATES, ACTIONS), 1 / (STATES * ACTIONS))
    alpha = 0.01  # strength of the regulariser: small, so that the optimum is the linear program's

    def delta(v):
        return advantage(reward / alpha, v[:, None] / alpha, v[after] / alpha, np.zeros_like(reward), GAMMA)

    def loss(v):
        return (1 - GAMMA) * (start @ v) + alpha * (data * conjugate(delta(v))).sum()

    found = minimize(loss, np.zeros(STATES), method="BFGS", options={"maxiter": 2000})
    ratio = density_ratio(delta(found.x))
    assert (ratio >= 0).all()
    assert (ratio * data).sum() == pytest.approx(1, abs=0.02)
    assert 0.5 * np.abs(ratio * data - _best_occupancy(after, reward, start)).sum() <= 0.02


def test_the_conjugate_is_the_supremum_it_stands_for():
    """f*(d) = max over w >= 0 of w d - (w - 1)^2."""
    grid = np.linspace(0, 8, 80_001)
    for d in (-5.0, -2.0, -0.5, 0.0, 1.0, 3.0):
        assert conjugate(np.array([d]))[0] == pytest.approx((grid * d - (grid - 1) ** 2).max(), abs=1e-6)
    assert float(conjugate(torch.tensor([1.0]))) == pytest.approx(1.25)


def test_policy_weights_are_clipped_at_both_ends():
    assert policy_weight(np.array([-1.0, 0.5, 1e6])).tolist() == [0.0, 0.5, MOST]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_added_is_orthogonal_to_the_forward_gradient(seed):
    forward, backward = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 50)))
    added = orthogonal(forward, backward, 1.0) - forward
    assert abs(float(added @ forward)) < 1e-6
    np.testing.assert_allclose(orthogonal(forward, 3 * forward, 1.0), forward)
