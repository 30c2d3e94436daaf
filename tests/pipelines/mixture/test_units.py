"""Shares of frames and tokens, moving phases, and draws in groups of one episode."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from catalog.lake import Lake
from pipelines.mixture.compile import compile_mixture
from pipelines.mixture.plan import Phase, Plan, PlanSource, pack_blocks
from pipelines.mixture.units import token_counter
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import SourceOptions
from schemas.contract import Contract, Feature
from schemas.errors import InfeasibleMixtureError, UsageError
from schemas.mixture import PhaseSpec, ResamplingSpec, SourceSpec, WeightSpec, WindowSpec
from tests.support.mixtures import toy_spec
from tests.support.toys import FPS, SECOND, ToySource, ingest_toy
from transforms.interleave import quantise

BOTH = (SourceSpec("toy_a"), SourceSpec("toy_b"))


@dataclass(frozen=True)
class Talks(ToySource):
    """Episodes of text alone: `task` and an answer per step."""

    words: int = 3

    def contract(self) -> Contract:
        features = (Feature("observation.state", "float32", (1,), role="state"), Feature("answer", "string", ()))
        return Contract(self.options.dataset, "human", "none", float(FPS), features=features, licence="Apache-2.0")

    def episode(self, index: int) -> EpisodeDraft:
        count = self.lengths[index]
        times = np.arange(count, dtype=np.int64) * SECOND // FPS
        columns = {"observation.state": np.zeros((count, 1)), "answer": ["yes, it is" if k % 2 else "no" for k in range(count)]}
        steps = build_steps(self.contract(), times, columns, language=" ".join(["word"] * self.words))
        return EpisodeDraft(str(index), steps, (), success=True, uri=self.uri)


@pytest.fixture(scope="module")
def talks(tmp_path_factory) -> Lake:
    lake = Lake.at(tmp_path_factory.mktemp("units") / "lake")
    ingest_toy(lake, ToySource(options=SourceOptions("toy_a")))
    ingest_toy(lake, Talks(options=SourceOptions("talk"), lengths=(8, 8), words=3))
    ingest_toy(lake, Talks(options=SourceOptions("lecture"), lengths=(8, 8, 4), words=27))
    return lake


def test_shares_of_tokens(talks):
    sources = (SourceSpec("talk"), SourceSpec("lecture", weight=3))
    compiled = compile_mixture(talks, toy_spec("tokens", samples=10_000, sources=sources, unit="tokens", statistics=False))
    answers = (1 + 4) / 2  # "no", and "yes", ",", "it", "is"
    per_draw = np.array([3 + answers, 27 + answers])
    assert [s.per_draw for s in compiled.shares] == pytest.approx(per_draw)
    tokens = np.array([s.draws for s in compiled.shares]) * per_draw
    assert tokens / tokens.sum() == pytest.approx([0.25, 0.75], abs=1e-4)
    assert [s.realised for s in compiled.shares] == pytest.approx(tokens / tokens.sum())
    assert [s.asked for s in compiled.shares] == [0.25, 0.75]
    assert compiled.shares[0].note.endswith("5.5 tokens per draw")
    silent = toy_spec("silent", sources=(SourceSpec("toy_a"), SourceSpec("talk")), unit="frames", statistics=False)
    with pytest.raises(UsageError, match="source talk shows no frames"):
        compile_mixture(talks, silent)


def test_caps_floors_and_temperature_in_tokens(talks):
    sources = (SourceSpec("talk", max_epochs=10), SourceSpec("lecture", floor=0.5))
    spec = toy_spec("limits", samples=400, sources=sources, unit="tokens", statistics=False)
    capped = compile_mixture(talks, replace(spec, sources=(sources[0], SourceSpec("lecture"))))
    assert capped.shares[0].draws <= 160
    assert "held at its cap of 10 epochs" in capped.shares[0].note
    weights = (SourceSpec("talk", weight=99), SourceSpec("lecture", floor=0.5))
    floored = compile_mixture(talks, replace(spec, sources=weights))
    assert floored.shares[1].realised == pytest.approx(0.5, abs=0.02)
    assert "raised to its floor" in floored.shares[1].note
    sized = compile_mixture(
        talks, replace(spec, samples=40_000, temperature=1.0, sources=(SourceSpec("talk"), SourceSpec("lecture")))
    )
    assert [s.epochs for s in sized.shares] == pytest.approx([40_000 / 36] * 2, rel=1e-3)  # in proportion: every step as often


def test_shares_of_frames(toys):
    windows = WindowSpec(observation_s=(-0.1, 0.0))
    compiled = compile_mixture(toys, toy_spec("frames", sources=BOTH, unit="frames", windows=windows))
    assert [s.per_draw for s in compiled.shares] == [4, 4]
    assert [s.draws for s in compiled.shares] == [500, 500]


def test_tokens_of_a_tokenizer(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    made = Tokenizer(WordLevel({"pick": 0, "up": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = WhitespaceSplit()
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    assert token_counter(str(path))(["pick up", "pick up, now!"]) == [2, 3]
    assert token_counter("")(["pick up", "pick up, now!", ""]) == [2, 5, 0]
    with pytest.raises(UsageError, match="is not a file"):
        token_counter(str(tmp_path / "no.json"))
    path.write_text("{}")
    with pytest.raises(UsageError, match="cannot be read"):
        token_counter(str(path))


def test_phases_move_in_a_straight_line(toys):
    phase = PhaseSpec(1_600, {"toy_a": 9, "toy_b": 1}, {"toy_a": 1, "toy_b": 1}, 8)
    compiled = compile_mixture(toys, toy_spec("moving", samples=1_600, sources=BOTH, phases=(phase,)))
    source = compiled.plan.draw(np.arange(1_600)).source
    shares = (source.reshape(8, 200) == 0).mean(1)
    assert shares == pytest.approx(0.9 - 0.4 * (np.arange(8) + 0.5) / 8, abs=0.006)
    assert compiled.shares[0].realised == pytest.approx(0.7, abs=1e-3)
    a = compiled.plan.draw(np.arange(1_600)).item[source == 0]
    assert all(
        np.array_equal(np.sort(a[46 * k : 46 * (k + 1)]), np.arange(46)) for k in range(len(a) // 46)
    )  # through all pieces
    fading = PhaseSpec(160, {"toy_a": 1}, {"toy_b": 1}, 4)
    found = [s.weights for s in fading.stretches()]
    assert found[0] == pytest.approx({"toy_a": 0.875, "toy_b": 0.125})
    assert found[-1] == pytest.approx({"toy_a": 0.125, "toy_b": 0.875})
    with pytest.raises(UsageError, match="fewer than its 16 pieces"):
        PhaseSpec(10, {"a": 1}, {"a": 2})
    with pytest.raises(UsageError, match=r"phases\.routes\.a is 'up'"):
        PhaseSpec(10, {"a": 1}, routes={"a": "up"})


def test_groups_are_whole_and_of_one_episode(toys):
    group = 4
    spec = toy_spec("groups", samples=800, sources=BOTH, group=group)
    compiled = compile_mixture(toys, spec)
    plan = Plan.from_dict(json.loads(json.dumps(compiled.plan.to_dict())))
    assert plan.hash == compiled.plan.hash != compile_mixture(toys, replace(spec, group=2)).plan.hash
    draws = plan.draw(np.arange(800))
    rows = np.empty(800, np.int64)
    for k, name in enumerate(("toy_a", "toy_b")):
        mine = draws.source == k
        rows[mine] = compiled.index.find(name, "train", draws.item[mine])[0]
    for start in range(0, 800, group):
        assert len(set(rows[start : start + group])) == 1
        assert len(set(draws.item[start : start + group])) == group  # different steps of it
    for k, count in enumerate((4, 6)):
        order = rows[::group][draws.source[::group] == k]
        for begin in range(0, len(order) - count + 1, count):
            assert len(set(order[begin : begin + count])) == count  # every episode once before any comes again
    steps = Counter(draws.item[draws.source == 0].tolist())
    assert len(steps) == 46  # all steps are reached in time
    positions = np.random.default_rng(0).permutation(800)[:100]
    assert np.array_equal(plan.draw(positions).item, draws.item[positions])
    for end in (0, 1, 399, 402, 800):
        assert plan.counts(end).tolist() == np.bincount(draws.source[:end], minlength=2).tolist()
    with pytest.raises(UsageError, match="does not hold whole groups of 3"):
        toy_spec(group=3)


def test_groups_over_phases_caps_and_weights(toys):
    sources = (SourceSpec("toy_a", max_epochs=2), SourceSpec("toy_b"))
    phases = (PhaseSpec(120, {"toy_a": 2, "toy_b": 1}), PhaseSpec(120, {"toy_a": 1, "toy_b": 1}))
    terms, limits = (WeightSpec(column="CASE WHEN steps > 9 THEN 1 ELSE 0.2 END", form="linear"),), ResamplingSpec(0, 0)
    spec = toy_spec("capped", samples=240, sources=sources, phases=phases, group=4, weights=terms, resampling=limits)
    compiled = compile_mixture(toys, spec)
    assert compiled.plan.counts()[0] <= 2 * compiled.shares[0].items
    draws = compiled.plan.draw(np.arange(240))
    assert draws.source.reshape(-1, 4).std(axis=1).max() == 0
    assert np.bincount(draws.source, minlength=2).tolist() == compiled.plan.counts().tolist()
    with pytest.raises(InfeasibleMixtureError, match="cannot supply"):
        compile_mixture(toys, replace(spec, sources=tuple(SourceSpec(n, max_epochs=0.5) for n in ("toy_a", "toy_b"))))


def test_a_plan_refuses_broken_groups():
    source = PlanSource("a", "a", 5, pack_blocks([2, 0, 3]))
    quotas = tuple(quantise([1.0]).tolist())
    assert len(Plan(0, (source,), (Phase(6, quotas),), None, 3)) == 6
    with pytest.raises(UsageError, match="whole groups of 4"):
        Plan(0, (source,), (Phase(6, quotas),), None, 4)
    with pytest.raises(UsageError, match="do not add up"):
        Plan(0, (PlanSource("a", "a", 5),), (Phase(6, quotas),), None, 3)
