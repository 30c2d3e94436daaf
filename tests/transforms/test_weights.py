"""The weight algebra against its formula, term by term."""

import numpy as np
import pytest

from schemas.errors import UsageError
from schemas.mixture import WeightSpec
from transforms.weights import combine, evaluate

NAN = float("nan")


def weigh(values, steps=None, **spec):
    values = np.asarray(values, float)
    steps = np.ones(len(values)) if steps is None else np.asarray(steps, float)
    return combine([evaluate(WeightSpec(score="s", **spec), values, steps)], steps)


def test_terms_add_up_in_logarithms_and_the_mean_is_one():
    rng, steps = np.random.default_rng(0), np.random.default_rng(1).integers(1, 50, 200)
    ratio, quality, age = rng.normal(size=200), rng.uniform(0.1, 1, 200), rng.uniform(0, 5, 200)
    terms = [
        evaluate(WeightSpec(score="density_ratio", low=-1, high=1.5), ratio, steps),
        evaluate(WeightSpec(score="progress", form="linear", strength=2), quality, steps),
        evaluate(WeightSpec(score="staleness", strength=-1 / 3), age, steps),
    ]
    expected = np.exp(np.clip(ratio, -1, 1.5)) * quality**2 * np.exp(-age / 3)
    assert combine(terms, steps) == pytest.approx(expected / np.average(expected, weights=steps))
    assert np.average(combine(terms, steps), weights=steps) == pytest.approx(1)


def test_forms():
    assert weigh([1, 3], form="linear").tolist() == pytest.approx([0.5, 1.5])
    assert weigh([-1, 3], form="magnitude").tolist() == pytest.approx([0.5, 1.5])
    assert weigh([-2.0, 8.0], form="magnitude", strength=0.5).tolist() == pytest.approx([2 / 3, 4 / 3])  # p ~ |delta|^a
    z = weigh([10.0, 20.0, 40.0], [2, 1, 1], form="standard", strength=0.7)
    mean, spread = 20, np.sqrt((2 * 100 + 0 + 400) / 4)
    raw = np.exp(0.7 * (np.array([10, 20, 40]) - mean) / spread)
    assert z == pytest.approx(raw / np.average(raw, weights=[2, 1, 1]))
    assert weigh([5, 5, 5], form="standard").tolist() == [1, 1, 1]
    assert weigh([1000.0, 0.0]).tolist() == pytest.approx([2, 0])  # no overflow


def test_gates_shut_and_what_is_missing():
    assert weigh([0.1, 0.5, 0.9], at_least=0.5, strength=0).tolist() == [0, 1, 1]
    assert weigh([0.1, 0.5, 0.9], at_most=0.5, strength=0).tolist() == [1, 1, 0]
    assert weigh([0, 2], form="linear").tolist() == [0, 1]  # no progress at all is no weight
    assert weigh([0, 1], form="magnitude", low=-1).tolist() == pytest.approx(np.exp([-1, 0]) / np.exp([-1, 0]).mean())
    assert weigh([NAN, 0.0], missing="neutral").tolist() == [1, 1]
    assert weigh([NAN, 0.0], missing="drop").tolist() == [0, 1]
    assert weigh([NAN, NAN], missing="drop").tolist() == [0, 0]
    assert combine([], [3, 4]).tolist() == [1, 1]
    assert evaluate(WeightSpec(score="s"), np.array([NAN, 1.0]), [1, 1]).missing.tolist() == [True, False]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({}, "name either a score"),
        ({"score": "a", "column": "b"}, "name either a score"),
        ({"column": "b", "fingerprint": "f"}, "says nothing about a column"),
        ({"score": "a", "form": "exp"}, r"weights\.form is 'exp'"),
        ({"score": "a", "low": 2, "high": 1}, r"weights\.low is 2, above weights\.high = 1"),
        ({"score": "a", "strength": NAN}, r"weights\.strength is nan"),
        ({"score": "a", "sources": "robot"}, "give a list of source names"),
    ],
)
def test_refusals(bad, says):
    with pytest.raises(UsageError, match=says):
        WeightSpec(**bad)
