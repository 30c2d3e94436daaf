"""What draws say of themselves, and what they do without: the same from any worker, rank or way of asking."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from schemas.goals import GoalSpec
from schemas.mixture import DropoutSpec, PhaseSpec, ResamplingSpec, SourceSpec, SplitSpec, WeightSpec, WindowSpec
from tests.support.mixtures import toy_spec

KEYS = ("observation.state", "observation.images.front", "action")
SOURCES = (SourceSpec("toy_a", weight=3, modality="robot", route="action"), SourceSpec("toy_b", modality="vl", route="language"))
WINDOWS = WindowSpec(
    (-0.1, -0.05, 0.0), 0.1, goal=GoalSpec(0.2, 0.5, 0.3), dropout=DropoutSpec(language=0.4, goal=0.3, history=0.5)
)


@pytest.fixture(scope="module")
def dataset(toys):
    phases = (PhaseSpec(40, {"toy_a": 1, "toy_b": 1}), PhaseSpec(40, {"toy_a": 1, "toy_b": 3}, routes={"toy_b": "both"}))
    terms, limits = (
        (WeightSpec(column="CASE WHEN steps > 9 THEN 1 ELSE 0.3 END", form="linear"),),
        ResamplingSpec(0, 0, loss_weight=True),
    )
    spec = toy_spec(
        "drawn", samples=80, sources=SOURCES, windows=WINDOWS, phases=phases, weights=terms, resampling=limits, statistics=False
    )
    mix(toys, spec)
    return load("drawn", toys, keys=KEYS)


@pytest.fixture(scope="module")
def whole(dataset):
    return dataset.__getitems__(range(80))


def test_routes_follow_the_phase_and_modalities_the_source(whole):
    for t, sample in enumerate(whole):
        b = sample["source"] == "toy_b"
        assert sample["modality"] == ("vl" if b else "robot")
        assert sample["route"] == (("both" if t >= 40 else "language") if b else "action")
        assert sample["loss_weight"] > 0
    assert {s["route"] for s in whole} == {"action", "language", "both"}


def test_held_out_samples_have_the_routes_of_their_sources(toys):
    mix(toys, toy_spec("held-drawn", sources=SOURCES, split=SplitSpec(0.5, "a", "episode_id"), statistics=False))
    found = load("held-drawn", toys, keys=["action"], split="val")
    assert {(s["source"], s["route"]) for s in found.__getitems__(range(len(found)))} <= {
        ("toy_a", "action"),
        ("toy_b", "language"),
    }


def test_what_was_dropped_is_gone_and_recorded(toys, whole):
    plain = load("drawn", toys, keys=KEYS, windows=WindowSpec((-0.1, -0.05, 0.0), 0.1, goal=WINDOWS.goal)).__getitems__(range(80))
    seen = {name: sum(bool(s[f"dropped.{name}"]) for s in whole) for name in ("language", "goal", "history")}
    assert all(10 < n < 60 for n in seen.values())
    for sample, full in zip(whole, plain, strict=True):
        assert sample["task"] == ("" if sample["dropped.language"] else full["task"])
        assert ("goal.state" in sample) == ("goal.images.front" in sample) == (not sample["dropped.goal"])
        if not sample["dropped.goal"]:
            assert torch.equal(sample["goal.state"], full["goal.state"])
        for key in ("observation.state", "observation.images.front"):
            if sample["dropped.history"]:
                assert not sample[key][:2].any()
                assert sample[f"{key}_is_pad"].tolist()[:2] == [True, True]
            assert torch.equal(sample[key][-1], full[key][-1])
            if not sample["dropped.history"]:
                assert torch.equal(sample[key], full[key])
        assert torch.equal(sample["action"], full["action"])


def assert_equal(batch, samples):
    for row, sample in enumerate(samples):
        for key in ("observation.state", "observation.images.front", "loss_weight", "dropped.history", "dropped.goal"):
            assert torch.equal(batch[key][row].float(), torch.as_tensor(sample[key]).float()), key
        assert batch["task"][row] == sample["task"]
        assert batch["route"][row] == sample["route"]
        assert bool(batch["goal.state_is_pad"][row]) == bool(sample["dropped.goal"])
        assert not sample["dropped.goal"] or not batch["goal.images.front"][row].any()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores is what is tested
@pytest.mark.parametrize("workers", [0, 2, 5])
def test_p3_any_number_of_workers(dataset, whole, workers):
    if workers:
        torch.set_num_threads(1)
    loader = DataLoader(dataset, batch_sampler=dataset.batches(16), collate_fn=dataset.collate, num_workers=workers)
    batches = list(loader)
    assert [i for b in batches for i in b["index"].tolist()] == list(range(80))
    for number, batch in enumerate(batches):
        assert_equal(batch, whole[16 * number : 16 * number + 16])


def test_batches_made_in_place_are_the_same(dataset, whole):
    seen = 0
    for batch in dataset.loader(20, threads=2):
        assert_equal(batch, whole[seen : seen + 20])
        seen += 20
    assert seen == 80


def test_p3_ranks(dataset, whole):
    for rank in range(4):
        positions = next(iter(dataset.batches(16, rank=rank, world=4)))
        assert_equal(dataset.batch(positions), whole[4 * rank : 4 * rank + 4])
    assert np.unique([s["index"] for s in whole]).size == 80
