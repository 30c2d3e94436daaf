"""Dropout by counter: the chances asked for, independent of each other and of who asks."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2_contingency

from schemas.errors import UsageError
from schemas.mixture import DropoutSpec, WindowSpec
from transforms.dropout import dropped, without_past

SPEC = DropoutSpec(language=0.3, goal=0.1, history=0.5)
DRAWS = 4_000


@pytest.fixture(scope="module")
def told():
    return [dropped(SPEC, f"ep-{n % 37}", n % 11, n) for n in range(DRAWS)]


@pytest.mark.parametrize(("condition", "chance"), [("language", 0.3), ("goal", 0.1), ("history", 0.5)])
def test_chances_are_those_asked_for(told, condition, chance):
    assert binomtest(sum(t[condition] for t in told), DRAWS, chance).pvalue > 1e-3


def test_conditions_are_independent(told):
    for a, b in (("language", "goal"), ("language", "history"), ("goal", "history")):
        table = np.histogram2d([t[a] for t in told], [t[b] for t in told], bins=2)[0]
        assert chi2_contingency(table).pvalue > 1e-3


def test_neighbours_are_independent(told):
    flags = [t["history"] for t in told]
    assert chi2_contingency(np.histogram2d(flags[:-1], flags[1:], bins=2)[0]).pvalue > 1e-3


def test_the_same_id_is_the_same_draw(told):
    assert [dropped(SPEC, f"ep-{n % 37}", n % 11, n) for n in reversed(range(200))] == told[199::-1]
    assert dropped(DropoutSpec(goal=1.0), "ep", 0, 0) == {"goal": True}
    assert dropped(DropoutSpec(), "ep", 0, 0) == {}


def test_what_is_left_without_the_past():
    values, pad = np.arange(1, 9).reshape(4, 2), np.array([True, False, False, False])
    kept, is_pad = without_past(values, pad, (-200, -100, 0, 100))
    assert kept.tolist() == [[0, 0], [0, 0], [5, 6], [7, 8]]
    assert is_pad.tolist() == [True, True, False, False]
    assert values[0, 0] == 1


def test_refusals():
    with pytest.raises(UsageError, match=r"windows\.dropout\.language is 1\.5"):
        DropoutSpec(1.5)
    with pytest.raises(UsageError, match=r"windows\.goal does not ask for"):
        WindowSpec(dropout=DropoutSpec(goal=0.1))
