"""Macro latents: Viterbi against brute force over every path, penalties against run lengths, chains against clocks."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.macro_latents import chain, choose_penalty, distances, macro_runs, path_cost, persistent

SECOND = 1_000_000_000


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3), st.floats(0, 2))
def test_no_path_of_all_is_cheaper(seed: int, length: int, codes: int, penalty: float) -> None:
    cost, starts = np.random.default_rng(seed).random((length, codes)), np.array([0, length])
    found = path_cost(cost, persistent(cost, starts, penalty), starts, penalty)
    best = min(path_cost(cost, np.array(p), starts, penalty) for p in product(range(codes), repeat=length))
    assert found == pytest.approx(best)


def test_without_a_penalty_each_latent_takes_its_nearest_code_and_with_a_large_one_all_take_the_best() -> None:
    rng = np.random.default_rng(0)
    z, book = rng.normal(size=(60, 3)), rng.normal(size=(5, 3))
    cost, starts = distances(z, book), np.array([0, 25, 60])
    assert cost == pytest.approx(np.square(z[:, None] - book[None]).sum(2))
    assert np.array_equal(persistent(cost, starts, 0.0), cost.argmin(1))
    held = persistent(cost, starts, 1e6)
    for a, b in ((0, 25), (25, 60)):
        assert set(held[a:b]) == {int(cost[a:b].sum(0).argmin())}


def test_sequences_do_not_touch() -> None:
    cost = np.random.default_rng(1).random((40, 4))
    together = persistent(cost, np.array([0, 15, 15, 40]), 0.3)
    apart = [persistent(c, np.array([0, len(c)]), 0.3) for c in (cost[:15], cost[15:])]
    assert np.array_equal(together, np.concatenate(apart))


def test_blocks_are_found_in_noise_that_hides_them_from_nearest_codes() -> None:
    rng, book = np.random.default_rng(2), np.eye(4) * 2
    truth = np.repeat([0, 2, 1, 3, 0], 12)
    cost = distances(book[truth] + rng.normal(size=(60, 4)), book)
    starts = np.array([0, 60])
    nearest, found = cost.argmin(1), persistent(cost, starts, choose_penalty(cost, starts, 0.1, (1.0, 1.5)))
    assert (found == truth).mean() > 0.95 > (nearest == truth).mean() + 0.1
    first, length = macro_runs(found, starts)
    assert list(first) == pytest.approx([0, 12, 24, 36, 48], abs=1)
    assert length.sum() == 60


def test_the_penalty_meets_the_wanted_median_run() -> None:
    rng = np.random.default_rng(3)
    walk = np.cumsum(rng.normal(size=(600, 2)) * 0.4, 0)
    cost, starts = distances(walk, walk[::40]), np.array([0, 300, 600])
    for low, high in ((0.5, 1.5), (1.5, 3.0)):
        penalty = choose_penalty(cost, starts, 0.2, (low, high))
        assert low <= np.median(macro_runs(persistent(cost, starts, penalty), starts)[1]) * 0.2 <= high


def test_a_chain_takes_latents_that_begin_where_the_last_one_ends() -> None:
    t_ns = np.concatenate([np.arange(10), np.arange(6)]) * SECOND // 5  # 5 Hz, two sequences
    rows, valid = chain(t_ns, np.array([0, 10, 16]), 0.4, 3)
    assert rows[0].tolist() == [0, 2, 4]
    assert rows[10].tolist() == [10, 12, 14]
    assert valid.tolist() == [True] * 6 + [False] * 4 + [True] * 2 + [False] * 4
    gap = np.array([0, 1, 9, 10, 11]) * SECOND // 5  # the recording has a hole
    assert chain(gap, np.array([0, 5]), 0.4, 2)[1].tolist() == [False, False, True, False, False]


def test_macro_runs_change_with_any_token() -> None:
    codes = np.array([[1, 1], [1, 1], [1, 2], [1, 2], [3, 2]])
    first, length = macro_runs(codes, np.array([0, 4, 5]))
    assert (first.tolist(), length.tolist()) == ([0, 2, 4], [2, 2, 1])


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(UsageError, match="0 or more"):
        persistent(np.zeros((2, 2)), np.array([0, 2]), -1.0)
