from itertools import combinations, pairwise

import numpy as np
import pytest

from transforms.changepoint import cut, residuals


def wave(seed: int = 0, size: int = 14) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, size)).cumsum(1)


@pytest.mark.parametrize("model", ["bspline", "constant_velocity"])
def test_misfit_is_that_of_least_squares(model: str) -> None:
    from scipy.interpolate import BSpline

    x = wave()
    found = residuals(x, 12, model)  # type: ignore[arg-type]
    for n, i in ((12, 1), (9, 4), (7, 0)):
        t = np.linspace(0, 1, n)
        knots = np.array([0, 0, 0, 0, 0.5, 1, 1, 1, 1])
        basis = BSpline.design_matrix(t, knots, 3).toarray() if model == "bspline" else np.stack([np.ones(n), t], 1)
        left = sum(np.linalg.lstsq(basis, row, rcond=None)[1].sum() for row in x[:, i : i + n])
        assert found[n, i] == pytest.approx(left, rel=1e-6)
    assert np.isinf(found[0]).all()
    assert np.isinf(found[12, 3:]).all()


def test_a_segment_of_few_samples_fits_exactly() -> None:
    assert (residuals(wave(), 5, "bspline")[1:6, :9] < 1e-12).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_cheapest_of_all_segmentations_is_found(seed: int) -> None:
    x = wave(seed)
    reward = np.random.default_rng(seed + 9).random(14) * (np.arange(14) % 3 == 0)
    misfit = residuals(x, 8, "constant_velocity")

    def price(inner: tuple[int, ...]) -> float:
        edges = (0, *inner, 14)
        parts = [(a, b - a) for a, b in pairwise(edges)]
        if any(n < 2 or n > 8 for _, n in parts):
            return np.inf
        return sum(misfit[n, a] + 0.7 for a, n in parts) - sum(reward[b] for b in inner)

    every = {inner: price(inner) for count in range(7) for inner in combinations(range(1, 14), count)}
    best = min(every, key=every.__getitem__)
    found = cut(misfit, 0.7, reward, 2)
    assert found.cost == pytest.approx(every[best])
    assert price(tuple(found.first[1:].tolist())) == pytest.approx(every[best])
    for boundary, gain in zip(found.first[1:], found.gain[1:], strict=True):
        without = min(p for inner, p in every.items() if boundary not in inner)
        assert gain == pytest.approx(without - every[best])
    assert np.isinf(found.gain[0])


def test_too_short_to_split() -> None:
    found = cut(residuals(wave(size=5), 5, "bspline"), 1.0, np.full(5, 9.0), 3)
    assert found.first.tolist() == [0]


def test_two_lines_meet_where_they_meet() -> None:
    t = np.arange(40)
    x = np.where(t < 17, t, 34 - t).astype(float)[None]
    assert cut(residuals(x, 40, "constant_velocity"), 1.0, np.zeros(40), 3).first.tolist() in ([0, 17], [0, 18])
