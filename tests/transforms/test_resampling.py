"""Systematic resampling in closed form is the one that walks, step by step; no step strays a whole copy from its weight."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.resampling import UNIT, Copies, drawn_start, effective_size, whole_weights

RUNS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4 * UNIT)), min_size=1, max_size=20)


def walked(steps, weights, start):
    """Every copy as (run, step), the way a person would write it down."""
    found, sum_so_far = [], start
    for run, (count, weight) in enumerate(zip(steps, weights, strict=True)):
        for step in range(count):
            copies = (sum_so_far + weight) // UNIT - sum_so_far // UNIT
            sum_so_far += weight
            found += [(run, step)] * copies
    return found


@given(RUNS, st.integers(0, UNIT - 1))
@settings(max_examples=150, deadline=None, database=None)
def test_finds_what_walking_finds(runs, start):
    steps, weights = (np.array(x, np.int64) for x in zip(*runs, strict=True))
    copies, expected = Copies(steps, weights, start), walked(steps.tolist(), weights.tolist(), start)
    assert len(copies) == len(expected)
    run, step = copies.find(np.arange(len(copies)))
    assert list(zip(run.tolist(), step.tolist(), strict=True)) == expected
    assert copies.firsts.tolist() == [sum(r < k for r, _ in expected) for k in range(len(steps) + 1)]
    assert copies.kept().tolist() == [len({s for r, s in expected if r == k}) for k in range(len(steps))]


@given(RUNS, st.integers(0, UNIT - 1))
@settings(max_examples=100, deadline=None, database=None)
def test_multiplicities_are_within_one_of_the_weights(runs, start):
    steps, weights = (np.array(x, np.int64) for x in zip(*runs, strict=True))
    copies = Copies(steps, weights, start)
    run, step = np.repeat(np.arange(len(steps)), steps), np.concatenate([np.arange(n) for n in steps])
    counts = copies.count(run, step)
    assert (np.abs(counts * UNIT - weights[run]) < UNIT).all()
    assert counts.sum() == len(copies)
    assert abs(counts.sum() - (steps * weights).sum() / UNIT) < 1  # the list is as long as the weights are heavy
    found = copies.find(np.arange(len(copies)))
    assert (copies.count(*found) >= 1).all()


def test_the_bound_is_that_of_systematic_not_of_independent_draws():
    rng = np.random.default_rng(0)
    weights = np.exp(rng.normal(size=100_000))
    whole = whole_weights(weights, np.ones(100_000, np.int64))
    copies = Copies(np.ones(100_000, np.int64), whole, drawn_start("x"))
    wanted = weights / weights.mean()
    counts = copies.count(np.arange(100_000), np.zeros(100_000, int))
    assert np.abs(counts - wanted).max() < 1
    assert len(copies) in (99_999, 100_000, 100_001)
    assert np.abs(rng.multinomial(100_000, wanted / wanted.sum()) - wanted).max() > 5  # what chance alone would do


def test_weight_one_is_the_list_itself():
    copies = Copies(np.array([3, 0, 2]), np.full(3, UNIT), drawn_start("any"))
    run, step = copies.find(np.arange(5))
    assert run.tolist() == [0, 0, 0, 2, 2]
    assert step.tolist() == [0, 1, 2, 0, 1]
    assert len(Copies(np.empty(0, np.int64), np.empty(0, np.int64))) == 0


def test_lists_no_array_could_hold():
    steps = np.full(1_000, 10**9)
    copies = Copies(steps, np.where(np.arange(1_000) % 2, UNIT // 2, 3 * UNIT // 2), 7)
    asked = np.random.default_rng(1).integers(0, len(copies), 2_000)
    run, step = copies.find(asked)
    assert len(copies) == 10**12
    assert (copies.firsts[run] <= asked).all()
    assert (asked < copies.firsts[run + 1]).all()
    assert ((step >= 0) & (step < 10**9)).all()
    again = copies.find(asked + 1)
    assert ((again[0] > run) | (again[1] >= step)).all()


def test_weights_become_whole_and_keep_their_mean():
    whole = whole_weights(np.array([2.0, 0.0, 1e-12, 6.0]), np.array([10, 5, 1, 10]))
    assert whole[1] == 0
    assert whole[2] == 1
    assert abs(whole[3] - 3 * whole[0]) <= 2
    assert whole_weights(np.zeros(2), np.array([1, 1])).tolist() == [0, 0]
    assert effective_size([1, 1, 0], [4, 6, 9]) == 10
    assert effective_size([3, 1], [1, 1]) == 1.6
    assert effective_size([0], [3]) == 0
    assert len({drawn_start(f"s{i}") for i in range(100)}) == 100
