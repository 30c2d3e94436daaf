"""Edges, latency, staleness and asynchronous vision, seen from a loaded sample; every frame says which one it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch.utils.data import DataLoader

from catalog.lake import Lake
from pipelines.loader.fields import fields_of
from pipelines.loader.load import load
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.sources.base import SourceOptions
from schemas.contract import Contract, Feature, Part
from schemas.errors import UsageError
from schemas.mixture import LocalitySpec, MixtureSpec, WindowSpec
from tests.support.mixtures import toy_spec
from tests.support.toys import FPS, ToySource, ingest_toy
from tests.support.video import read_barcode

FRONT = "observation.images.front"
WINDOW = WindowSpec(observation_s=(-0.1, 0.0), action_horizon_s=0.2)


def code(image: torch.Tensor) -> int:
    return read_barcode(image.permute(1, 2, 0).numpy())


def test_masked_entries_are_zero(toys):
    repeat, mask = (load("toy_a", toys, windows=replace(WINDOW, edge=e)) for e in ("repeat", "mask"))
    for at in range(12):  # the first episode
        a, b = repeat[at], mask[at]
        for key in ("action", "observation.state", FRONT):
            pad = a[f"{key}_is_pad"]
            assert torch.equal(pad, b[f"{key}_is_pad"])
            assert torch.equal(a[key][~pad], b[key][~pad])
            assert not b[key][pad].any()
    assert repeat[10]["action"][3].any()
    assert code(repeat[0][FRONT][0]) == code(repeat[0][FRONT][1])


def test_a_relative_chunk_stands_still_at_the_end(toys):
    sample = load("toy_a", toys, windows=replace(WINDOW, edge="zero_relative"))[10]
    assert sample["action_is_pad"].tolist() == [False, False, True, True]
    assert sample["action"][1, 0] == 11 * 0.5
    assert not sample["action"][2:].any()  # the toy's action is declared a delta
    assert (
        load("toy_a", toys, windows=replace(WINDOW, edge="zero_relative"))[0]["observation.state"][0, 1] == 0
    )  # sin 0, repeated


def test_parts_decide_what_is_relative():
    parts = (Part("gripper", 3, 4, representation="absolute"),)
    action = Feature("action", "float32", (4,), role="action", representation="delta", parts=parts)
    contract = Contract("d", "robot", "arm", 20.0, features=(action,))
    spec = WindowSpec(action_horizon_s=0.2, edge="zero_relative")
    assert fields_of(contract, spec)[0].relative == (True, True, True, False)
    silent = replace(contract, features=(replace(action, representation=None),))
    with pytest.raises(UsageError, match=r"whether scalars \[0, 1, 2\] of action are absolute or relative"):
        fields_of(silent, spec)


def test_dropped_steps_are_never_drawn(toys):
    spec = replace(WINDOW, edge="drop")
    report = mix(toys, toy_spec("dropped", samples=120, windows=spec, locality=LocalitySpec(2), statistics=True))
    mixture, dataset = open_mixture(toys, "dropped"), load("dropped", toys)
    assert [s.steps for s in report.shares] == [46 - 4 * 5, 51 - 6 * 5]  # two at the head, three at the tail
    whole = load("toy_a", toys, windows=replace(WINDOW, edge="repeat"))
    known = {(s["episode_id"], int(s["frame_index"])): s for s in whole.__getitems__(range(len(whole)))}
    seen = set()
    for sample in dataset.__getitems__(range(len(dataset))):
        assert not any(sample[k].any() for k in sample if k.endswith("_is_pad"))
        at = (sample["episode_id"], int(sample["frame_index"]))
        seen.add(at)
        if at in known:
            assert torch.equal(sample["action"], known[at]["action"])
            assert torch.equal(sample[FRONT], known[at][FRONT])
    assert len(seen) == 26 + 21
    assert min(step for _, step in seen) == 2
    assert open_mixture(toys, "dropped").spec == mixture.spec
    assert len(load("dataset:toy_a", toys, windows=spec)) == 26
    mix(toys, toy_spec("kept", samples=10, statistics=False))
    with pytest.raises(UsageError, match="mix again"):
        load("kept", toys, windows=spec)
    with pytest.raises(UsageError, match="no step is left"):
        mix(toys, toy_spec("none", windows=WindowSpec(action_horizon_s=5.0, edge="drop")))


def test_what_is_late_is_older_and_says_so(toys):
    spec = WindowSpec(observation_s=(-0.05, 0.0), latency_s={FRONT: 0.1}, staleness=True, match="hold")
    sample = load("toy_a", toys, windows=spec)[5]
    assert [code(i) for i in sample[FRONT]] == [2, 3]
    assert [code(i) - 1000 for i in sample["observation.images.wrist"]] == [4, 5]
    assert sample[f"{FRONT}_staleness_s"].tolist() == pytest.approx([0.1, 0.1])
    assert sample["observation.state_staleness_s"].tolist() == pytest.approx([0, 0])
    start = load("toy_a", toys, windows=spec)[1]
    assert start[f"{FRONT}_is_pad"].tolist() == [True, True]
    assert start[f"{FRONT}_staleness_s"].tolist() == [0, 0]
    between = load("toy_a", toys, windows=replace(spec, latency_s={FRONT: 0.03}))[5]
    assert [code(i) for i in between[FRONT]] == [3, 4]  # captured 50 ms ago: the next one is not known yet
    assert between[f"{FRONT}_staleness_s"].tolist() == pytest.approx([0.05, 0.05])
    single = load("toy_a", toys, windows=WindowSpec(latency_s={FRONT: 0.1}))[5]
    assert code(single[FRONT]) == 3
    assert single[f"{FRONT}_staleness_s"].shape == ()
    assert not single[f"{FRONT}_is_pad"]
    with pytest.raises(UsageError, match=r"did you mean observation\.images\.front"):
        load("toy_a", toys, windows=WindowSpec(latency_s={"observation.images.frnt": 0.1}))


@pytest.fixture(scope="module")
def long_lake(tmp_path_factory):
    lake = Lake.at(tmp_path_factory.mktemp("late") / "lake")
    ingest_toy(lake, ToySource(options=SourceOptions("long"), lengths=(400,), per_group=1))
    return lake


def test_vision_lags_by_a_drawn_delay(long_lake):
    spec = WindowSpec(vision_delay_s=0.2, match="hold")
    dataset = load("long", long_lake, windows=spec, keys=[FRONT, "observation.images.wrist", "observation.state"])
    late = []
    for sample in dataset.__getitems__(range(10, 400)):
        lag = int(sample["observation.state"][0]) - code(sample[FRONT])
        assert lag == int(sample["observation.state"][0]) + 1000 - code(sample["observation.images.wrist"])  # one delay for all
        assert float(sample[f"{FRONT}_staleness_s"]) == pytest.approx(lag / FPS, abs=1e-6)
        late.append(lag)
    counts = np.bincount(late, minlength=5)
    assert counts[0] < 15  # only delays below the clock's slack
    assert counts[1:5].min() > 60  # 390 draws over four steps
    assert len(counts) == 5
    loader = DataLoader(dataset, batch_sampler=dataset.batches(64), collate_fn=dataset.collate)
    batch = next(iter(loader))
    one = dataset[10]
    assert torch.equal(batch[FRONT][10], one[FRONT])  # the same draw, however it is asked for
    assert batch[f"{FRONT}_staleness_s"].shape == (64,)


def test_vision_lags_as_it_was_measured_to(long_lake):
    dataset = load(
        "long", long_lake, windows=WindowSpec(vision_delays_s=(0.05, 0.05, 0.2), match="hold"), keys=[FRONT, "observation.state"]
    )
    samples = dataset.__getitems__(range(10, 400))
    late = np.bincount([int(s["observation.state"][0]) - code(s[FRONT]) for s in samples], minlength=5)
    assert late[[0, 2, 3]].tolist() == [0, 0, 0]
    assert binomtest(int(late[1]), 390, 2 / 3).pvalue > 1e-3


def test_the_spec_keeps_what_it_is_given():
    raw = {"name": "m", "samples": 1, "sources": [{"name": "a"}]}
    windows = {"edge": "mask", "latency_s": {FRONT: 1}, "vision_delay_s": 1, "staleness": True}
    spec = MixtureSpec.from_dict(raw | {"windows": windows})
    assert MixtureSpec.from_dict(spec.to_dict()) == spec
    assert set(MixtureSpec.from_dict(raw).to_dict()["windows"]) == {"observation_s", "action_horizon_s", "action_hz", "match"}
    for change, says in (
        ({"edge": "wrap"}, "repeat, mask, zero_relative, drop"), ({"latency_s": {"a": -1}}, "latency_s.a is -1"),
        ({"latency_s": 3}, "a table of seconds"), ({"staleness": 1}, "true or false"), ({"vision_delay_s": -1}, "seconds, 0 or more"),
        ({"vision_delays_s": [-1]}, "seconds, 0 or more"), ({"vision_delays_s": [1], "vision_delay_s": 1}, "keep one of them"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            MixtureSpec.from_dict(raw | {"windows": change})
