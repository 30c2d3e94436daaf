"""Water-filling: shares follow the weights wherever neither cap nor floor holds them."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.errors import InfeasibleMixtureError
from transforms.shares import fill_shares

INF = float("inf")


def fill(weights, items, samples, caps=None, floors=None):
    count = len(weights)
    names = [f"s{i}" for i in range(count)]
    return fill_shares(names, weights, items, samples, caps or [INF] * count, floors or [0] * count)


def test_sheet_example():
    items = np.array([4e6, 2e5, 1e4, 3e7])
    shares = fill(items**0.5, items, 20_000_000, [4] * 4)
    assert np.round(shares, 3).tolist() == [0.256, 0.040, 0.002, 0.702]
    assert np.round(shares * 2e7 / items, 2).tolist() == [1.28, 4.0, 4.0, 0.47]


def test_floors_raise_and_the_rest_gives_way():
    assert fill([8, 1, 1], [100, 100, 100], 100, floors=[0, 0.3, 0]).round(9).tolist() == [
        round(0.7 * 8 / 9, 9),
        0.3,
        round(0.7 / 9, 9),
    ]
    assert fill([1, 1], [10, 1000], 100, [1, INF], [0, 0.95]).round(9).tolist() == [0.05, 0.95]


@st.composite
def mixtures(draw):
    count = draw(st.integers(1, 12))
    items = draw(st.lists(st.integers(1, 10**7), min_size=count, max_size=count))
    caps = draw(st.lists(st.one_of(st.just(INF), st.floats(0.1, 20)), min_size=count, max_size=count))
    weights = draw(st.lists(st.floats(1e-3, 1), min_size=count, max_size=count))
    supply = sum(c * n for c, n in zip(caps, items, strict=True))
    most = 10**8 if np.isinf(supply) else int(supply)
    assume(most >= 1)
    samples = draw(st.integers(1, most))
    ceilings = [min(c * n / samples, 1) for c, n in zip(caps, items, strict=True)]
    floors = [draw(st.floats(0, 0.9)) * c / count for c in ceilings]
    return np.array(weights), np.array(items), samples, np.array(caps), np.array(floors)


@given(mixtures())
@settings(max_examples=300, deadline=None, database=None)
def test_limits_hold_and_free_sources_keep_their_proportions(mixture):
    weights, items, samples, caps, floors = mixture
    shares = fill(weights, items, samples, list(caps), list(floors))
    limit = caps * items / samples
    assert shares.sum() == pytest.approx(1)
    assert (shares <= limit * (1 + 1e-6)).all()
    assert (shares >= floors * (1 - 1e-6)).all()
    level = shares / weights
    free = (shares < limit * (1 - 1e-6)) & (shares > floors * (1 + 1e-6))
    if free.any():
        common = np.median(level[free])
        assert level[free] == pytest.approx(common, rel=1e-6)
        assert (level[shares >= limit * (1 - 1e-6)] <= common * (1 + 1e-6)).all()  # only those above the level are held down
        assert (level[shares <= floors * (1 + 1e-6)] >= common * (1 - 1e-6)).all()


def bisected(weights, low, high):
    """Shares by bisection of the level: another way to the same answer."""
    least, most = 0.0, 1.0
    while np.clip(most * weights, low, high).sum() < 1:
        most *= 2
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if np.clip(middle * weights, low, high).sum() < 1 else (least, middle)
    return np.clip(most * weights, low, high)


def test_two_thousand_mixtures_against_bisection():
    rng = np.random.default_rng(0)
    capped = floored = 0
    for _ in range(2_000):
        count = int(rng.integers(1, 13))
        weights, items = rng.uniform(0.001, 1, count), np.exp(rng.uniform(2, 16, count)).astype(int)
        caps = np.where(rng.random(count) < 0.5, rng.uniform(0.1, 20, count), INF)
        supply = (caps * items).sum()
        samples = int(rng.integers(1, 10**8 if np.isinf(supply) else max(int(supply), 2)))
        limit = np.minimum(caps * items / samples, 1)
        if np.isfinite(supply) and limit.sum() < 1:
            with pytest.raises(InfeasibleMixtureError, match=f"at most {np.floor(supply + 1e-6):.0f}"):
                fill(weights, items, samples, list(caps))
            continue
        floors = rng.uniform(0, 0.9, count) * limit / count
        shares = fill(weights, items, samples, list(caps), list(floors))
        assert shares == pytest.approx(bisected(weights, floors, limit), abs=1e-9)
        capped, floored = capped + (shares >= limit * (1 - 1e-9)).any(), floored + (shares <= floors * (1 + 1e-9)).any()
    assert min(capped, floored) > 300  # both limits are met often enough to be tested


def test_infeasible_mixtures_say_what_would_do():
    with pytest.raises(
        InfeasibleMixtureError, match=r"cannot supply 100 samples .* at most 20 \(s0 10, s1 10\); lower samples to 20"
    ):
        fill([0.5, 0.5], [10, 10], 100, [1, 1])
    with pytest.raises(InfeasibleMixtureError, match=r"source s0: a floor of 0\.5 .* lower samples to 20"):
        fill([0.5, 0.5], [10, 1000], 100, [1, INF], [0.5, 0])
    with pytest.raises(InfeasibleMixtureError, match=r"floors add up to 1\.2"):
        fill([1, 1], [10, 10], 10, floors=[0.6, 0.6])
    assert fill([0.5, 0.5], [10, 10], 20, [1, 1]).tolist() == [0.5, 0.5]  # exactly the most
