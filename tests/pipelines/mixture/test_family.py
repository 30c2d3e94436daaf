"""Specs that come from specs: written as TOML, varied by modality, exchanged with other loaders, compared."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipelines.cli.app import run
from pipelines.mixture.ablate import family
from pipelines.mixture.compile import compile_mixture
from pipelines.mixture.diff import compare
from pipelines.mixture.mix import mix
from pipelines.mixture.oxe import read_mix, spec_of_mix
from schemas.errors import UsageError
from schemas.goals import GoalSpec
from schemas.mixture import (
    DropoutSpec,
    LocalitySpec,
    MixtureSpec,
    PhaseSpec,
    ResamplingSpec,
    SourceSpec,
    SplitSpec,
    WeightSpec,
    WindowSpec,
    load_spec,
)  # fmt: skip
from schemas.mixture.toml import to_toml
from tests.support.mixtures import toy_spec

SOURCES = (
    SourceSpec("toy_a", weight=5, modality="robot", route="action"),
    SourceSpec("toy_b", weight=3, modality="vl", route="language"),
    SourceSpec("short", "steps < 10", weight=2, modality="human_video"),
)
EVERYTHING = MixtureSpec(
    "all-of_it", 300, SOURCES, 5, 0.25, SplitSpec(0.1, 'a "quoted" salt', "episode_id"),
    WindowSpec((-0.1, 0.0), 0.4, latency_s={"action": 0.01}, goal=GoalSpec(0.1, 0.9), dropout=DropoutSpec(0.1, 0.2)), locality=LocalitySpec(3),
    phases=(PhaseSpec(200, {"toy_a": 1, "toy_b": 1, "short": 1}, {"toy_a": 3}, 4, {"toy_a": "both"}), PhaseSpec(100, {"toy_a": 1})),
    weights=(WeightSpec(score="s", strength=0.0, low=0.0, sources=("toy_a",)), WeightSpec(column="steps", form="linear")),
    resampling=ResamplingSpec(0.2, loss_weight=True), unit="tokens", tokenizer="t.json",
)  # fmt: skip


@pytest.mark.parametrize(
    "spec", [EVERYTHING, toy_spec(), replace(EVERYTHING, phases=(), group=4, locality=None, statistics=False)]
)
def test_toml_reads_back(spec):
    assert load_spec(to_toml(spec)) == spec
    assert MixtureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_siblings_differ_in_exactly_one_modality(toys):
    spec = toy_spec("study", samples=600, sources=SOURCES, statistics=False)
    siblings = {k: compile_mixture(toys, s) for k, s in family(spec).items()}
    assert list(siblings) == ["full", "without-vl", "without-human_video", "robot", "robot-plus-vl", "robot-plus-human_video"][:4]
    draws = {k: c.plan.draw(np.arange(600)) for k, c in siblings.items()}
    order = {k: [s.name for s in c.spec.sources] for k, c in siblings.items()}
    full = {n: draws["full"].item[draws["full"].source == k] for k, n in enumerate(order["full"])}
    for name, found in siblings.items():
        for k, source in enumerate(order[name]):
            mine = draws[name].item[draws[name].source == k]
            both = min(len(mine), len(full[source]))
            assert both > 50
            assert np.array_equal(mine[:both], full[source][:both])  # a source's own order never changes
        left = [s for s in SOURCES if s.name in order[name]]
        total = sum(s.weight for s in left)
        assert [s.realised for s in found.shares] == pytest.approx([s.weight / total for s in left], abs=2e-3)
    gone = {k: {s.modality for s in SOURCES} - {s.modality for s in siblings[k].spec.sources} for k in siblings}
    assert gone == {"full": set(), "without-vl": {"vl"}, "without-human_video": {"human_video"}, "robot": {"vl", "human_video"}}


def test_five_modalities_make_twelve_siblings():
    kinds = ("robot", "vl", "dense_language", "cross_embodiment", "human_video", "action_tokens")
    sources = tuple(SourceSpec(m.replace("_", "-"), modality=m) for m in kinds)
    phases = (PhaseSpec(10, {s.name: 1.0 for s in sources}), PhaseSpec(10, {"robot": 1.0}))
    terms = (WeightSpec(column="steps", sources=("vl", "robot")), WeightSpec(column="steps", sources=("vl",)))
    found = family(MixtureSpec("m", 20, sources, phases=phases, weights=terms))
    assert len(found) == 1 + 5 + 1 + 5
    assert [s.name for s in found["robot-plus-vl"].sources] == ["robot", "vl"]
    assert found["without-vl"].weights == (WeightSpec(column="steps", sources=("robot",)),)  # a term of vl alone goes with it
    assert found["robot"].phases[0].weights == {"robot": 1.0}
    with pytest.raises(UsageError, match=r"phase 0 of m would have no source left"):
        family(MixtureSpec("m", 20, sources, phases=(PhaseSpec(10, {"vl": 1.0}), phases[0])))
    with pytest.raises(UsageError, match=r"sources \['x'\] have no modality"):
        family(MixtureSpec("m", 20, (SourceSpec("x"),)))
    with pytest.raises(UsageError, match="at least one other"):
        family(MixtureSpec("m", 20, (SourceSpec("x", modality="robot"),)))


OCTO = """
from typing import Dict
BRIDGE_MIX = [("toy_a", 1.0)]
SOUP: list = [("toy_a", 0.5), ("Toy B", 1.5), ("toy_a", 0.25), ("off", 0.0)]
OXE_NAMED_MIXES = {"bridge": BRIDGE_MIX, "soup": SOUP, "computed": BRIDGE_MIX[1:]}
open("OUT/ran", "w")
"""


def test_mixes_of_other_loaders(tmp_path, toys, capsys):
    source = tmp_path / "oxe.py"
    source.write_text(OCTO.replace("OUT", str(tmp_path)))
    assert read_mix(source, "soup") == [("toy_a", 0.75), ("Toy B", 1.5)]
    spec = spec_of_mix(read_mix(source, "soup"), "soup", 100, balanced=True)
    assert [(s.name, s.weight) for s in spec.sources] == [("toy_a", 0.75), ("toy_b", 1.5)]
    assert spec.temperature == 1
    assert not (tmp_path / "ran").exists()  # it was read, not run
    with pytest.raises(UsageError, match="choose one with --mix: bridge, soup"):
        read_mix(source)
    with pytest.raises(UsageError, match="holds no mix 'stew'"):
        read_mix(source, "stew")
    out = tmp_path / "soup.toml"
    assert run(["mix", "import", str(source), "--as", "soup", "--mix", "soup", "--samples", "970", "--out", str(out)]) == 0
    assert run(["mix", "--lake", toys.root, str(out)]) == 0  # options may stand first
    assert "pinned soup@" in capsys.readouterr().out
    target = tmp_path / "soup.json"
    assert run(["mix", "export", "soup", "--out", str(target), "--lake", toys.root]) == 0
    body = json.loads(target.read_text())
    assert body["balance_weights"] is False
    shares = dict(read_mix(target))
    assert shares == pytest.approx(
        {"toy_a": 0.75 * 46 / (0.75 * 46 + 1.5 * 51), "toy_b": 1.5 * 51 / (0.75 * 46 + 1.5 * 51)}, abs=2e-3
    )
    for text, says in (
        ("[1, 2]", "holds no list"),
        ("{", "neither JSON"),
        ('[["a", 0]]', "every weight"),
        ('[["a", -1]]', "holds no list"),
    ):
        target.write_text(text)
        with pytest.raises(UsageError, match=says):
            read_mix(target)


def test_differences_are_named(toys, tmp_path, capsys):
    mix(toys, toy_spec("left", statistics=False))
    sources = (SourceSpec("toy_a", weight=1), SourceSpec("short", "steps < 8", weight=1))
    mix(toys, toy_spec("right", statistics=False, sources=sources, seed=2))
    assert run(["mix", "diff", "left", "right", "--lake", toys.root, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spec"]["seed"] == [1, 2]
    assert found["spec"]["sources.toy_a.weight"] == [3.0, 1.0]
    assert found["sources"]["toy_a"]["asked"] == [0.75, 0.5]
    assert found["sources"]["toy_b"]["realised"] == [0.25, None]
    assert found["episodes"] == {"source short, train": [0, 2], "source toy_b, train": [6, 0]}
    assert found["order"] == {"toy_a": False}  # another seed
    path = tmp_path / "left.toml"
    path.write_text(to_toml(toy_spec("left", statistics=False)))
    assert run(["mix", "diff", "left", str(path), "--lake", toys.root]) == 0
    assert "are the same mixture" in capsys.readouterr().out
    same = compare(compile_mixture(toys, toy_spec("left")), compile_mixture(toys, toy_spec("left", windows=WindowSpec((0.0,)))))
    assert same.same_order
    assert not same.same
    assert "(the same order)" in same.text


def test_commands_write_siblings(tmp_path, capsys):
    path = tmp_path / "study.toml"
    path.write_text(to_toml(toy_spec("study", sources=SOURCES)))
    assert run(["mix", "ablate", str(path), "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "study-full.toml", "study-robot.toml", "study-without-human-video.toml", "study-without-vl.toml",
    ]  # fmt: skip
    assert load_spec(tmp_path / "out" / "study-without-vl.toml").name == "study-without-vl"
    assert run(["mix", "--help"]) == 0
    assert "ablate" in capsys.readouterr().out
