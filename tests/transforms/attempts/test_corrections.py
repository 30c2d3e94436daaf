"""Corrections on a clock: planted directions and delays are found, noise in all directions is not explained."""

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.attempts.corrections import effect_ns, local_basis

SECOND = 10**9


def test_two_planted_directions_explain_a_correction():
    rng = np.random.default_rng(0)
    planted = np.linalg.qr(rng.normal(size=(7, 2)))[0].T
    found = local_basis(rng.normal(size=(50, 2)) @ planted + 0.05 * rng.normal(size=(50, 7)))
    assert len(found.directions) == 2
    assert found.explained > 0.9
    np.testing.assert_allclose(np.linalg.svd(found.directions @ planted.T)[1], 1, atol=0.01)
    steady = local_basis(np.tile([0.0, 0.3, 0.0], (20, 1)))
    np.testing.assert_allclose(np.abs(steady.directions), [[0, 1, 0]])
    assert steady.explained == pytest.approx(1)


def test_corrections_in_all_directions_are_not_explained_by_three():
    """The adversarial twin."""
    found = local_basis(np.random.default_rng(0).normal(size=(500, 7)))
    assert len(found.directions) == 3
    assert found.explained < 0.9


def test_nothing_changed_has_no_direction_and_broken_numbers_are_refused():
    assert local_basis(np.zeros((4, 3))).directions.shape == (0, 3)
    with pytest.raises(UsageError, match="finite"):
        local_basis(np.full((2, 2), np.nan))


def test_an_effect_lies_between_the_word_and_the_horizon():
    t, differences = np.arange(20) * SECOND // 10, np.zeros((20, 2))
    differences[12:] = [0.0, 0.5]
    differences[3] = 9.0  # before anything was said
    said = 8 * SECOND // 10
    felt = effect_ns(t, differences, said, 1.0, 0.1)
    assert felt == 12 * SECOND // 10
    assert said <= felt <= said + SECOND
    assert effect_ns(t, differences, said, 0.3, 0.1) is None, "too late to be its effect"
    assert effect_ns(t, differences, said, 1.0, 0.6) is None, "too small to be one"
