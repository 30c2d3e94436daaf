"""The sketch: bit-equal under any sharding and order, quantiles within alpha, exact moments."""

import math
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.quantiles import ALPHA, EPSILON, Sketch

RNG = np.random.default_rng(0)
COUNT = 100_000
SHAPES = {
    "normal": RNG.normal(size=COUNT),
    "small deltas": RNG.normal(0, 1e-3, COUNT),
    "cauchy": RNG.standard_cauchy(COUNT),
    "gripper 0/1": (RNG.random(COUNT) < 0.3).astype(float),
    "gripper": RNG.beta(0.1, 0.1, COUNT),
    "joint radians": RNG.uniform(-3.14, 3.14, COUNT),
    "millimetres": RNG.normal(400, 50, COUNT),
    "spike": np.where(RNG.random(COUNT) < 0.995, 0, RNG.normal(0, 5, COUNT)),
}


def merged(parts):
    return reduce(Sketch.merge, parts)


@pytest.mark.parametrize("name", SHAPES)
def test_quantiles_are_within_alpha_of_numpy(name):
    values = SHAPES[name]
    column = Sketch.of(values).columns[0]
    for share in (0, 0.01, 0.1, 0.5, 0.9, 0.99, 1):
        truth = np.quantile(values, share, method="lower")
        assert column.quantile(share) == pytest.approx(truth, rel=ALPHA, abs=EPSILON)


@pytest.mark.parametrize("name", SHAPES)
def test_any_sharding_and_order_gives_the_same_bits(name):
    values = SHAPES[name][:20_000]
    whole = Sketch.of(values).digest()
    parts = [Sketch.of(p) for p in np.array_split(values, 100)]
    assert merged(parts).digest() == whole
    assert merged(parts[::-1]).digest() == whole
    shuffled = [parts[i] for i in np.random.default_rng(1).permutation(100)]
    tree = [merged(shuffled[i : i + 10]) for i in range(0, 100, 10)]
    assert merged(tree).digest() == whole
    assert Sketch.of(values[:-1]).digest() != whole


@pytest.mark.parametrize("name", SHAPES)
def test_moments(name):
    column = Sketch.of(SHAPES[name]).columns[0]
    values = SHAPES[name]
    # the sums are exact for values rounded to 2^-32, so they differ from numpy by that rounding alone
    assert column.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
    assert column.std == pytest.approx(values.std(), rel=1e-6)
    assert (column.low, column.high, column.count) == (values.min(), values.max(), len(values))


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=60), st.integers(1, 5))
@settings(max_examples=150, deadline=None, database=None)
def test_any_floats(values, pieces):
    array = np.array(values, np.float64)
    whole = Sketch.of(array.reshape(-1, 1))
    parts = [Sketch.of(p.reshape(-1, 1)) for p in np.array_split(array, pieces)]
    assert merged(parts).digest() == whole.digest()
    column, finite = whole.columns[0], sorted(v for v in values if math.isfinite(v))
    assert (column.count, column.invalid, whole.rows) == (len(finite), len(values) - len(finite), len(values))
    assert column.total == sum(round(Fraction(v) * 2**32) for v in finite)
    assert column.square == sum(round(Fraction(v) * 2**32) ** 2 for v in finite)
    for share in (0, 0.3, 1) if finite else ():
        truth = finite[math.floor(share * (len(finite) - 1))]
        assert column.quantile(share) == pytest.approx(truth, rel=ALPHA, abs=EPSILON)


def test_columns_are_separate_and_huge_values_exact():
    table = np.array([[1e300, -2.0], [-1e300, -4.0]])
    a, b = Sketch.of(table).columns
    assert a.mean == 0
    assert a.std == pytest.approx(1e300)
    assert (b.mean, b.std, b.quantile(0)) == (-3, 1, -4)
    assert Sketch.of(np.array([-0.0])).digest() == Sketch.of(np.array([0.0])).digest()
    assert Sketch.of(np.array([True, False, True])).columns[0].mean == pytest.approx(2 / 3)


def test_nothing_and_mismatch():
    none = Sketch.of(np.full((3, 1), np.nan)).columns[0]
    assert (none.count, none.invalid) == (0, 3)
    assert all(math.isnan(v) for v in (none.mean, none.std, none.quantile(0.5)))
    with pytest.raises(ValueError, match="shorter"):
        Sketch.of(np.zeros((2, 2))).merge(Sketch.of(np.zeros((2, 1))))


def test_true_quantiles_where_averaging_episodes_is_wrong():
    """LeRobot 0.6.1 averages per-episode quantiles: on episodes of different spread that is another number altogether."""
    rng = np.random.default_rng(3)
    episodes = [rng.normal(rng.normal(0, 2), rng.uniform(0.05, 1), 200) for _ in range(300)]
    column = merged([Sketch.of(e) for e in episodes]).columns[0]
    pooled = np.concatenate(episodes)
    truth = np.quantile(pooled, 0.01, method="lower")
    averaged = np.mean([np.quantile(e, 0.01) for e in episodes])
    assert column.quantile(0.01) == pytest.approx(truth, rel=ALPHA)
    assert (pooled < averaged).mean() > 0.05  # said to be 0.01
