"""P1, P8, P10: a bijection for every size, well mixed, different for every key."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.permutation import SMALL_ROUNDS, permutation

# Google Grain 0.2.18 repeats one index and loses another at 2^(2j) + 1
BREAKS_GRAIN = [2**16 + 1, 2**18 + 1, 2**20 + 1]
POWERS = [2**k + d for k in range(1, 17) for d in (-1, 0, 1)]


@pytest.mark.parametrize(
    "sizes", [range(1, 400), sorted({p for p in POWERS if p > 0}), [99_991, *BREAKS_GRAIN]], ids=["small", "powers", "grain"]
)
def test_p1_every_item_once_and_back(sizes):
    for size in sizes:
        shuffle = permutation(size, b"size %d" % size)
        items = shuffle(np.arange(size))
        assert np.array_equal(np.sort(items), np.arange(size)), size
        assert np.array_equal(shuffle.inverse(items), np.arange(size)), size


@pytest.mark.parametrize("size", [10**6, 10**9, 10**12, 2**40 + 1, 10**15, 2**62 + 1, 2**63 - 1])
def test_p1_inverse_at_sizes_no_array_could_hold(size):
    positions = np.random.default_rng(0).integers(0, size, 50_000)
    shuffle = permutation(size, b"x")
    items = shuffle(positions)
    assert items.min() >= 0
    assert items.max() < size
    assert np.array_equal(shuffle.inverse(items), positions)
    edges = np.array([0, size - 1])
    assert np.array_equal(shuffle.inverse(shuffle(edges)), edges)


@given(size=st.integers(1, 5_000), key=st.binary(max_size=40))
@settings(max_examples=60, deadline=None, database=None)
def test_p1_for_any_size_and_key(size, key):
    assert np.array_equal(np.sort(permutation(size, key)(np.arange(size))), np.arange(size))


def test_p8_positions_say_nothing_about_items():
    size = 10**6
    items = permutation(size, b"seed|source|0")(np.arange(size)).astype(float)
    limit = 4 / np.sqrt(size)
    assert abs(np.corrcoef(np.arange(size), items)[0, 1]) < limit
    assert abs(np.corrcoef(items[:-1], items[1:])[0, 1]) < limit
    table = np.histogram2d(np.arange(size), items, bins=100)[0]
    expected = size / 100**2
    assert abs(((table - expected) ** 2 / expected).sum() / 99**2 - 1) < 0.05


def test_p8_tiny_domains_are_uniform_over_permutations():
    seen = Counter(tuple(permutation(5, b"v%d" % k)(np.arange(5)).tolist()) for k in range(6_000))
    assert len(seen) == 120
    assert sum((n - 50) ** 2 / 50 for n in seen.values()) < 190  # chi squared, 119 degrees: p > 1e-4
    assert len(permutation(5, b"v").keys) == SMALL_ROUNDS


def test_p10_keys_are_independent():
    size = 100_000
    first, second = (permutation(size, key)(np.arange(size)).astype(float) for key in (b"5|0", b"5|1"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(size)
    assert (first == second).sum() < 12  # one is expected


def test_refuses_what_is_outside():
    shuffle = permutation(10, b"")
    for bad in ([10], [-1]):
        with pytest.raises(IndexError, match="inside range"):
            shuffle(bad)
    for size in (0, 2**63):
        with pytest.raises(ValueError, match="2\\^63"):
            permutation(size, b"")
    assert shuffle([]).shape == (0,)
