"""A plan with locality keeps every promise of the plan without it, and stays near; without it nothing changed."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pipelines.loader.load import load
from pipelines.mixture.compile import compile_mixture
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.mixture.plan import Phase, Plan, PlanSource, pack_blocks, unpack_blocks
from schemas.errors import InfeasibleMixtureError, UsageError
from schemas.mixture import LocalitySpec, PhaseSpec, SourceSpec, load_spec
from tests.support.mixtures import toy_spec
from transforms.interleave import quantise
from transforms.locality import expected_blocks

SIZES = {name: np.random.default_rng(n).integers(20, 120, count) for n, (name, count) in enumerate((("a", 300), ("b", 200)))}


def make_plan(locality, names=("a", "b"), seed=3):
    sources = tuple(PlanSource(n, f"src-{n}", int(SIZES[n].sum()), pack_blocks(SIZES[n])) for n in names)
    quotas = tuple(quantise(np.arange(1, len(names) + 1)).tolist())
    return Plan(seed, sources, (Phase(30_000, quotas), Phase(20_001, quotas[::-1])), locality)


@pytest.mark.parametrize("locality", [LocalitySpec(1), LocalitySpec(16), LocalitySpec(10_000), LocalitySpec(16, 32)])
def test_every_epoch_is_a_permutation_and_any_position_can_be_asked(locality):
    plan = make_plan(locality)
    whole = plan.draw(np.arange(len(plan)))
    for i, source in enumerate(plan.sources):
        items, epochs = whole.item[whole.source == i], whole.epoch[whole.source == i]
        assert np.array_equal(np.sort(items[epochs == 0]), np.arange(source.items))
        assert len(np.unique(items[epochs == 1])) == (epochs == 1).sum() > 0
    assert not np.array_equal(whole.item[(whole.source == 1) & (whole.epoch == 1)][:500], whole.item[whole.source == 1][:500])
    restored = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert restored.hash == plan.hash
    for start in (0, 29_999, 30_001, 44_444):
        assert np.array_equal(restored.draw(np.arange(start, len(plan))).item, whole.item[start:])
    alone = make_plan(locality, ("b",)).draw(np.arange(9_000))
    assert np.array_equal(alone.item, whole.item[whole.source == 1][:9_000])  # P6: other sources do not disturb


def test_batches_touch_as_many_episodes_as_the_formula_says():
    batch = 128
    for window in (8, 32):
        plan = make_plan(LocalitySpec(window), ("a",))
        draws = plan.draw(np.arange(plan.sources[0].items))
        episode = np.searchsorted(np.cumsum(SIZES["a"]), draws.item, side="right")
        counted, expected, start = [], [], 0
        while start < len(episode):
            head = list(dict.fromkeys(episode[start:].tolist()))[:window]
            size = int(SIZES["a"][head].sum())
            counted += [len(set(episode[k : k + batch])) for k in range(start, start + size - batch + 1, batch)]
            expected += [expected_blocks(SIZES["a"][head], batch)] * (size // batch)
            start += size
        assert np.mean(counted) == pytest.approx(np.mean(expected), rel=0.03)
    draws = make_plan(None, ("a",)).draw(np.arange(batch))
    assert len(set(np.searchsorted(np.cumsum(SIZES["a"]), draws.item, side="right").tolist())) > 90


def test_locality_is_part_of_the_order_and_its_absence_is_not():
    hashes = {make_plan(x).hash for x in (None, LocalitySpec(4), LocalitySpec(5), LocalitySpec(4, 8))}
    assert len(hashes) == 4
    plain = make_plan(None)
    bare = replace(plain, sources=tuple(replace(s, blocks="") for s in plain.sources))
    assert set(bare.to_dict()) == {"seed", "sources", "phases"}
    assert set(bare.to_dict()["sources"][0]) == {"name", "id", "items"}
    assert np.array_equal(unpack_blocks(pack_blocks(SIZES["a"])), SIZES["a"])
    with pytest.raises(UsageError, match="do not add up"):
        Plan(0, (PlanSource("a", "a", 5, pack_blocks([2, 2])),), (Phase(1, (1,)),), LocalitySpec(2))
    with pytest.raises(UsageError, match=r"locality\.window is 0"):
        LocalitySpec(0)


def test_a_mixture_with_locality_round_trips_and_loads(toys):
    spec = load_spec("""
name = "near"
samples = 300
seed = 4
statistics = false
[locality]
window = 1
[[sources]]
name = "toy_a"
[[sources]]
name = "toy_b"
""")
    report = mix(toys, spec)
    mixture = open_mixture(toys, "near", report.hash)
    assert mixture.plan.locality == LocalitySpec(1)
    assert mixture.spec == spec
    samples = load("near", toys, keys=["action"]).__getitems__(range(92))
    visited = [s["episode_id"] for s in samples if s["source"] == "toy_a"]
    assert len(dict.fromkeys(visited)) == 4
    assert sum(a != b for a, b in pairwise(visited)) == 3  # one episode after the other, each once
    assert compile_mixture(toys, replace(spec, locality=None)).hash != report.hash


PHASED = """
name = "phased"
seed = 4
statistics = false
[[phases]]
samples = 100
weights = { toy_a = 3, toy_b = 1 }
[[phases]]
samples = 50
[phases.weights]
toy_b = 1
[[sources]]
name = "toy_a"
[[sources]]
name = "toy_b"
"""


def test_phases_follow_their_weights_and_a_source_goes_on(toys):
    spec = load_spec(PHASED)
    assert spec.samples == 150
    assert load_spec(PHASED.replace("seed = 4", "seed = 4\nsamples = 150")) == spec
    report = mix(toys, spec)
    mixture = open_mixture(toys, "phased")
    assert mixture.spec == spec
    draws = mixture.plan.draw(np.arange(150))
    assert np.bincount(draws.source[:100]).tolist() == [75, 25]
    assert (draws.source[100:] == 1).all()
    b = draws.item[draws.source == 1]
    assert np.array_equal(np.sort(b[:51]), np.arange(51))  # no repeat across the boundary before the source is through
    assert [s.draws for s in report.shares] == [75, 75]
    assert [s.target for s in report.shares] == pytest.approx([0.5, 0.5], abs=1e-9)
    assert [(s.quota, s.period) for s in report.shares] == [(75, 150), (75, 150)]


def test_a_cap_counts_over_all_phases(toys):
    sources = (SourceSpec("toy_a", max_epochs=2), SourceSpec("toy_b"))
    phases = (PhaseSpec(120, {"toy_a": 2, "toy_b": 1}), PhaseSpec(120, {"toy_a": 1, "toy_b": 1}))
    compiled = compile_mixture(toys, toy_spec(samples=240, sources=sources, phases=phases))
    first = int(compiled.plan.counts(120)[0])
    assert first == 80
    assert 11 <= int(compiled.plan.counts()[0]) - first <= 12  # two times 46 steps, less the 80 drawn before
    used_up = (PhaseSpec(92, {"toy_a": 1}), PhaseSpec(50, {"toy_a": 1, "toy_b": 1}))
    with pytest.raises(InfeasibleMixtureError, match="earlier phases draw all 92"):
        compile_mixture(toys, toy_spec(samples=142, sources=sources, phases=used_up))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("seed = 4", "seed = 4\nsamples = 7"), "add up to 150, samples is 7"),
        (("toy_a = 3,", "toy_c = 3,"), r"phases\[0\].weights names the source 'toy_c'.*did you mean toy_"),
        (("toy_a = 3,", ""), "no phase gives toy_a a weight"),
        (("toy_a = 3", "toy_a = 0"), r"phases\.weights\.toy_a is 0"),
        (("samples = 50\n", ""), r"phases\[1\].samples is missing"),
        (("[[phases]]\nsamples = 50\n[phases.weights]\ntoy_b = 1", "[locality]\nblock_steps = 3"), "locality.window is missing"),
    ],
)
def test_refusals_name_the_key(change, says):
    with pytest.raises(UsageError, match=says):
        load_spec(PHASED.replace(*change))
