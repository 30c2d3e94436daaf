"""Block-window order is a bijection for every shape, stays inside its windows, and touches as many blocks as the formula says."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.locality import EvenBlocks, ListedBlocks, LocalPermutation, expected_blocks, local_permutation


def listed(sizes) -> ListedBlocks:
    return ListedBlocks(np.asarray(sizes, np.int64))


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60), window=st.integers(1, 80), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None, database=None)
def test_p1_every_item_once(sizes, window, seed):
    order = LocalPermutation(listed(sizes), window, b"key%d" % seed)
    items = sum(sizes)
    assert np.array_equal(np.sort(order(np.arange(items))), np.arange(items))


@given(items=st.integers(1, 700), run=st.integers(1, 50), window=st.integers(1, 40))
@settings(max_examples=150, deadline=None, database=None)
def test_even_blocks_are_listed_blocks_of_equal_size(items, run, window):
    sizes = [run] * (items // run) + ([items % run] if items % run else [])
    places = np.arange(items)
    even = LocalPermutation(EvenBlocks(items, run), window, b"k")(places)
    assert np.array_equal(even, LocalPermutation(listed(sizes), window, b"k")(places))
    assert np.array_equal(np.sort(even), places)


@pytest.mark.parametrize("window", [1, 3, 16])
def test_a_window_holds_its_blocks_and_no_other(window):
    sizes = np.random.default_rng(1).integers(5, 30, 50)
    block_of = np.repeat(np.arange(50), sizes)
    seen = block_of[LocalPermutation(listed(sizes), window, b"x")(np.arange(sizes.sum()))]
    start, blocks = 0, []
    while start < len(seen):
        head = list(dict.fromkeys(seen[start:].tolist()))[:window]
        size = int(sizes[head].sum())
        assert set(seen[start : start + size].tolist()) == set(head)
        blocks += head
        start += size
    assert sorted(blocks) == list(range(50))
    assert blocks != sorted(blocks)  # the blocks themselves are shuffled


@pytest.mark.parametrize("window", [8, 64, 400])
def test_distinct_blocks_per_batch_follow_the_formula(window):
    batch, sizes = 64, np.random.default_rng(0).integers(20, 100, 400)
    block_of, items = np.repeat(np.arange(400), sizes), int(sizes.sum())
    measured, expected = [], []
    for seed in range(4):
        seen = block_of[LocalPermutation(listed(sizes), window, b"%d" % seed)(np.arange(items))]
        start = 0
        while start < items:
            head = list(dict.fromkeys(seen[start:].tolist()))[:window]
            size = int(sizes[head].sum())
            if len(head) == window:
                measured += [len(set(seen[k : k + batch].tolist())) for k in range(start, start + size - batch + 1, batch)]
                expected.append(expected_blocks(sizes[head], batch))
            start += size
    assert np.mean(measured) == pytest.approx(np.mean(expected), rel=0.02)
    assert np.mean(measured) == pytest.approx(window * (1 - (1 - 1 / window) ** batch), rel=0.07)  # equal blocks, with repetition


def test_within_a_window_the_order_is_shuffled():
    items = 16 * 256
    order = LocalPermutation(EvenBlocks(items, 256), 16, b"global")(np.arange(items))
    bound = 4 / np.sqrt(items)
    assert abs(np.corrcoef(order, np.arange(items))[0, 1]) < bound
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < bound


def test_any_order_of_asking_and_keys_matter():
    blocks = EvenBlocks(10_000, 37)
    whole = LocalPermutation(blocks, 5, b"a")(np.arange(10_000))
    asked = np.random.default_rng(2).integers(0, 10_000, 500)
    assert np.array_equal(LocalPermutation(blocks, 5, b"a")(asked), whole[asked])
    assert not np.array_equal(LocalPermutation(blocks, 5, b"b")(np.arange(10_000)), whole)
    assert local_permutation(blocks, 5, b"a") is local_permutation(blocks, 5, b"a")


def test_even_blocks_need_no_memory():
    tracemalloc.start()
    try:
        found = LocalPermutation(EvenBlocks(10**12 + 7, 64), 512, b"k")(np.arange(10**11, 10**11 + 4_096))
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert len(np.unique(found // 64)) <= 2 * 512


def test_formula_against_counting():
    assert expected_blocks([1, 1, 1], 2) == pytest.approx(2)
    assert expected_blocks([2, 1], 1) == pytest.approx(1)
    assert expected_blocks([3, 3], 2) == pytest.approx(1 + 9 / 15)
    assert expected_blocks([5, 5, 5], 99) == 3
    assert expected_blocks([900] * 64, 256) == pytest.approx(64 * (1 - (1 - 1 / 64) ** 256), rel=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match="at least one block"):
        local_permutation(EvenBlocks(10, 2), 0, b"")
    with pytest.raises(IndexError, match=r"inside range\(10\)"):
        LocalPermutation(EvenBlocks(10, 3), 2, b"")([10])
