"""The proofs of a sampler: shares, ranks, resume, epochs, independence, memory, and a golden hash."""

import hashlib
import json
import time
import tracemalloc

import numpy as np
import pytest

from pipelines.mixture.plan import InOrder, Phase, Plan, PlanSource, rank_slice
from schemas.errors import UsageError
from transforms.interleave import PERIOD, interleave, quantise

ITEMS = {"robot": 1_003, "cross": 65_537, "human": 250_000, "vl": 10**9, "sim": 777}
SHARES = [
    (30_000, {"robot": 0.3, "cross": 0.1, "human": 0.3, "vl": 0.29, "sim": 0.01}),
    (20_000, {"robot": 0.6, "cross": 0.05, "human": 0.1, "vl": 0.25}),
    (10_001, {"robot": 0.9, "vl": 0.1}),
]


def make_plan(items=None, shares=None, seed=7):
    items, shares = items or ITEMS, shares or SHARES
    sources = tuple(PlanSource(n, f"src-{n}", count) for n, count in items.items())
    phases = tuple(Phase(t, tuple(quantise([w.get(n, 0) for n in items]).tolist())) for t, w in shares)
    return Plan(seed, sources, phases)


@pytest.fixture(scope="module")
def plan():
    return make_plan()


@pytest.fixture(scope="module")
def whole(plan):
    return plan.draw(np.arange(len(plan)))


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("source", "epoch", "item"))


def part(draws, start, stop):
    return type(draws)(draws.source[start:stop], draws.epoch[start:stop], draws.item[start:stop])


def test_p2_shares_hold_at_every_prefix(plan, whole):
    start = 0
    for phase in plan.phases:
        source = whole.source[start : start + phase.samples]
        slots = np.arange(1, len(source) + 1)
        present = sum(q > 0 for q in phase.quotas)
        for i, quota in enumerate(phase.quotas):
            error = np.cumsum(source == i) - quota * slots / PERIOD
            assert np.abs(error).max() <= (1 - 1 / (2 * present - 2)) + 1e-9
        start += phase.samples


def test_counts_are_what_is_drawn(plan, whole):
    for draws in (0, 1, 29_999, 30_000, 30_001, 50_000, len(plan)):
        assert np.array_equal(plan.counts(draws), np.bincount(whole.source[:draws], minlength=5))
    assert plan.counts().sum() == len(plan) == 60_001
    table = interleave(plan.phases[0].quotas)
    assert np.array_equal(table.counts(3 * PERIOD), 3 * np.array(plan.phases[0].quotas))  # exact at multiples of the period


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8, 24])
def test_p3_ranks_together_see_the_global_order(plan, whole, world):
    size = 240
    for batch in (0, 17, 124, 125, 249):
        ranks = [plan.draw(np.arange(*rank_slice(batch, size, r, world))) for r in range(world)]
        assert np.array_equal(np.concatenate([d.item for d in ranks]), whole.item[batch * size : (batch + 1) * size])


def test_p3_any_order_of_asking(plan, whole):
    positions = np.random.default_rng(0).permutation(len(plan))[:5_000]
    found = plan.draw(positions)
    assert np.array_equal(found.item, whole.item[positions])
    assert np.array_equal(found.source, whole.source[positions])


def test_p4_resumes_anywhere(plan, whole):
    restored = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert restored.hash == plan.hash
    boundaries = [0, 29_999, 30_000, 30_001, 49_999, 50_000, 50_001, len(plan) - 1]
    epoch_starts = np.flatnonzero((whole.source == 0) & (np.diff(whole.epoch * (whole.source == 0), prepend=0) > 0))
    assert len(epoch_starts) > 5
    for start in [*boundaries, *epoch_starts[:4], *(epoch_starts[:4] - 1), 12_345]:
        assert same(restored.draw(np.arange(start, len(plan))), part(whole, start, len(plan)))


def test_p5_no_repeat_before_an_epoch_ends(plan, whole):
    for i, source in enumerate(plan.sources):
        items, epochs = whole.item[whole.source == i], whole.epoch[whole.source == i]
        assert np.array_equal(epochs, np.arange(len(items)) // source.items)
        for epoch in range(epochs[-1] + 1 if len(epochs) else 0):
            seen = items[epochs == epoch]
            assert len(np.unique(seen)) == len(seen)
            if len(seen) == source.items:
                assert np.array_equal(np.sort(seen), np.arange(source.items))
    assert whole.epoch[whole.source == 0].max() > 20  # across phases the same source goes on where it was


def test_p6_a_source_does_not_notice_the_others(whole):
    fewer = {n: c for n, c in ITEMS.items() if n != "cross"}
    other = make_plan(fewer, [(40_000, {"robot": 0.5, "human": 0.3, "vl": 0.2})])
    found = other.draw(np.arange(40_000))
    for name in ("robot", "human", "vl"):
        mine = found.item[found.source == list(fewer).index(name)]
        before = whole.item[whole.source == list(ITEMS).index(name)]
        length = min(len(mine), len(before))
        assert length > 5_000
        assert np.array_equal(mine[:length], before[:length])


def test_p7_memory_does_not_grow_with_the_data():
    items = {"x": 10**12, "y": 10**9}
    interleave.cache_clear()
    tracemalloc.start()
    try:
        big = make_plan(items, [(10**13, {"x": 0.7, "y": 0.3})])
        big.draw(np.arange(10**12, 10**12 + 4_096))
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_p7_time_per_sample(plan):
    best = min(_seconds(plan, start) for start in range(0, 40_960, 4_096))
    assert best / 4_096 < 20e-6  # measured 0.3 us on an idle core; the bound only catches a lost vectorisation


def _seconds(plan, start):
    begin = time.perf_counter()
    plan.draw(np.arange(start, start + 4_096))
    return time.perf_counter() - begin


def test_p9_golden(whole):
    """Mixtures that exist must draw the same for ever: a change of this hash is a change of format."""
    stacked = np.stack([whole.source, whole.epoch, whole.item]).astype("<i8")
    assert hashlib.blake2b(stacked.tobytes(), digest_size=8).hexdigest() == "7099af2d58ad4d62"


def test_p10_seeds_and_epochs_are_unrelated():
    """Where the key is seed + epoch, epoch 1 of seed 5 is epoch 0 of seed 6."""
    draws = {seed: make_plan({"a": 1_000}, [(3_000, {"a": 1.0})], seed).draw(np.arange(3_000)).item for seed in (5, 6)}
    assert not np.array_equal(draws[5][1_000:2_000], draws[6][:1_000])
    assert not np.array_equal(draws[5][:1_000], draws[5][1_000:2_000])
    correlation = np.corrcoef(draws[5][:1_000], draws[5][1_000:2_000])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(1_000)


def test_strided_ranks_alias():
    """Why slices are contiguous: at equal weights the sources alternate, and every second draw is one source only."""
    halves = make_plan({"a": 100, "b": 100}, [(1_000, {"a": 0.5, "b": 0.5})])
    source = halves.draw(np.arange(64)).source
    assert (source[0::2] == 0).mean() in (0.0, 1.0)
    for rank in range(2):
        start, stop = rank_slice(0, 64, rank, 2)
        assert (source[start:stop] == 0).mean() == 0.5


def test_micro_batches_are_stratified(plan, whole):
    quotas = np.array(plan.phases[0].quotas) / PERIOD
    for size in (8, 30, 64):
        cut = whole.source[: 30_000 // size * size].reshape(-1, size)
        counts = np.stack([(cut == i).sum(1) for i in range(5)], 1)
        assert np.abs(counts - size * quotas).max() < 2


def test_in_order():
    order = InOrder((PlanSource("a", "a", 3), PlanSource("b", "b", 0), PlanSource("c", "c", 2)))
    found = order.draw(np.arange(len(order)))
    assert found.source.tolist() == [0, 0, 0, 2, 2]
    assert found.item.tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(IndexError, match="inside range"):
        order.draw([5])


def test_refusals(plan):
    with pytest.raises(IndexError, match="not all inside the plan's 60001"):
        plan.draw([60_001])
    with pytest.raises(UsageError, match="quotas for 1 sources"):
        Plan(0, (PlanSource("a", "a", 1),), (Phase(1, (1, 1)),))
    with pytest.raises(UsageError, match="no item to draw"):
        Plan(0, (PlanSource("a", "a", 0),), (Phase(1, (1,)),))
    with pytest.raises(UsageError, match="same id"):
        Plan(0, (PlanSource("a", "x", 1), PlanSource("b", "x", 1)), (Phase(1, (1, 1)),))
    with pytest.raises(UsageError, match="use a multiple of 3"):
        rank_slice(0, 64, 0, 3)
    with pytest.raises(UsageError, match="ranks count from 0"):
        rank_slice(0, 64, 2, 2)
