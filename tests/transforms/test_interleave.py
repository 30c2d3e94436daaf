"""P2: every prefix of the interleave is fair, and the quotas are the shares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.interleave import PERIOD, interleave, quantise


def deviations(table, quotas):
    """Worst |count - exact share| over all prefixes, and worst spread over all windows."""
    period, worst, spread = len(table), 0.0, 0.0
    slots = np.arange(1, period + 1)
    for source, quota in enumerate(quotas):
        error = np.cumsum(table == source) - quota * slots / period
        worst = max(worst, np.abs(error).max())
        spread = max(spread, max(error.max(), 0) - min(error.min(), 0))
    return worst, spread


MIXES = [np.random.default_rng(seed).dirichlet(np.ones(count)) for count in (2, 3, 50, 200) for seed in range(2)]
MIXES.append(np.array([0.9, *[0.1 / 49] * 49]))  # one source dominates: sorting by (j + 1/2) / q is off by 22 here


@pytest.mark.parametrize("weights", MIXES, ids=lambda w: f"{len(w)} sources, largest {w.max():.2f}")
def test_p2_every_prefix_within_the_theorem(weights):
    quotas = quantise(weights)
    assert quotas.sum() == PERIOD
    assert np.abs(quotas / PERIOD - weights).max() < 1 / PERIOD
    order = interleave(tuple(quotas.tolist()))
    worst, spread = deviations(order.table, quotas)
    assert worst <= 1 - 1 / (2 * len(weights) - 2) + 1e-9
    assert spread < 2
    assert np.array_equal(np.bincount(order.table, minlength=len(quotas)), quotas)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any))
@settings(max_examples=150, deadline=None, database=None)
def test_p2_for_any_quotas(quotas):
    order = interleave(tuple(quotas))
    present = sum(q > 0 for q in quotas)
    worst, _ = deviations(order.table, quotas)
    assert worst <= (1 - 1 / (2 * present - 2) if present > 1 else 0) + 1e-9
    assert np.array_equal(np.bincount(order.table, minlength=len(quotas)), quotas)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), st.integers(0, 200))
@settings(max_examples=60, deadline=None, database=None)
def test_locate_and_counts_agree_with_walking(quotas, draws):
    order = interleave(tuple(quotas))
    walked = np.resize(order.table, draws)
    source, before = order.locate(np.arange(draws))
    assert np.array_equal(source, walked)
    assert before.tolist() == [int((walked[:t] == walked[t]).sum()) for t in range(draws)]
    assert np.array_equal(order.counts(draws), np.bincount(walked, minlength=len(quotas)))


def test_quotas_keep_small_sources_and_limits():
    assert quantise([1.0, 1e-9]).tolist() == [PERIOD - 1, 1]
    assert quantise([1.0, 0.0]).tolist() == [PERIOD, 0]
    assert quantise([1, 1, 2], 4).tolist() == [1, 1, 2]
    assert quantise([0.5, 0.5], 10, most=[3, 10]).tolist() == [3, 7]
    assert quantise([0.9, 0.1], 10, least=[0, 4]).tolist() == [6, 4]
    # thirds cannot fill a period when every source is rounded down: one slot too many is better than none
    assert sorted(quantise([1, 1, 1], 10, most=[3, 3, 3]).tolist()) == [3, 3, 4]


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=60))
@settings(max_examples=80, deadline=None, database=None)
def test_quotas_are_within_one_slot(weights):
    exact = np.array(weights) / np.sum(weights) * PERIOD
    quotas = quantise(weights)
    assert quotas.sum() == PERIOD
    assert quotas.min() >= 1
    if exact.min() >= 1:
        assert np.abs(quotas - exact).max() < 1


def test_refuses_impossible_weights():
    for weights in ([], [0, 0], [1, -1], [1, np.nan]):
        with pytest.raises(UsageError, match="cannot be shares"):
            quantise(weights)
    with pytest.raises(UsageError, match="do not fit a period"):
        quantise(np.ones(5), 4)
    with pytest.raises(UsageError, match="are no shares"):
        interleave((0, 0))
