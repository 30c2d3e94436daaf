import numpy as np
import pytest
import torch
from scipy import stats

from transforms.entropy import entropy_loss, entropy_weights, information_potential, silverman
from transforms.koopman import fit_koopman

RNG = np.random.default_rng(0)


def test_the_information_potential_is_its_double_sum() -> None:
    errors = RNG.standard_normal((37, 2, 3))
    flat = errors.reshape(37, -1)
    kernel = stats.multivariate_normal(np.zeros(6), 0.7**2 * np.eye(6))
    expected = np.mean([[kernel.pdf(a - b) for b in flat] for a in flat])
    value, shares = information_potential(errors, 0.7, block=10)
    assert value == pytest.approx(expected, rel=1e-10)
    assert shares.mean() == pytest.approx(value)
    loss = entropy_loss(0.3, 0.7)(torch.from_numpy(errors))
    assert float(loss) == pytest.approx(np.square(errors).mean() - 0.3 * np.log(expected), rel=1e-6)


def test_narrow_errors_have_less_entropy_and_outliers_less_weight() -> None:
    wide, narrow = RNG.standard_normal((50, 4)), 0.2 * RNG.standard_normal((50, 4))
    assert information_potential(narrow, 0.5)[0] > information_potential(wide, 0.5)[0]
    errors = np.concatenate([narrow, [[3.0, 3.0, 3.0, 3.0]]])
    weights = entropy_weights(errors)
    assert weights.mean() == pytest.approx(1)
    assert weights.argmin() == 50
    assert silverman(wide) > silverman(narrow)


def test_a_linear_system_is_found_again() -> None:
    a, b = RNG.standard_normal((5, 5)), RNG.standard_normal((5, 2))
    a *= 0.9 / np.abs(np.linalg.eigvals(a)).max()
    z, u = RNG.standard_normal((200, 5)), RNG.standard_normal((200, 2))
    found = fit_koopman(z, u, z @ a.T + u @ b.T)
    assert found.error < 1e-6
    assert found.radius == pytest.approx(0.9, rel=1e-6)
    assert found.a == pytest.approx(a, abs=1e-9)
    assert found.predict(z, u) == pytest.approx(z @ a.T + u @ b.T, abs=1e-9)
    assert fit_koopman(z, u, RNG.standard_normal((200, 5))).error > 0.4  # nothing to be found in noise
    assert fit_koopman(z, u, z @ a.T + u @ b.T, ridge=1e-9).b == pytest.approx(b, abs=1e-6)
