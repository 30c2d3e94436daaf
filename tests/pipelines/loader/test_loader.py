"""The loader shows the right frame: barcodes through windows at episode edges, in the order of the plan, for any rank and worker."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.loader.load import load
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import Reject
from schemas.contract import Camera, Contract, Feature
from schemas.errors import LakeError, UsageError
from schemas.mixture import SourceSpec, SplitSpec, WindowSpec
from tests.support.mixtures import LARGE, SMALL, toy_spec
from tests.support.toys import FPS, ToySource, ingest_toy
from tests.support.video import read_barcode

WINDOWS = WindowSpec(observation_s=(-0.1, -0.05, 0.0), action_horizon_s=0.4)
LENGTHS = {"toy_a": SMALL, "toy_b": LARGE}
OBSERVED, ACTED = np.array([-2, -1, 0]), np.arange(8)


def truth(lake: Lake) -> dict[str, tuple[int, int]]:
    """Per episode id: the barcode of its first frame, and its length."""
    rows = Catalog(lake).latest("episodes").select("episode_id", "dataset", "key").collect()
    found = {}
    for episode, dataset, key in rows.iter_rows():
        lengths = LENGTHS[dataset]
        found[episode] = (sum(lengths[: int(key)]), lengths[int(key)])
    return found


def codes(images: torch.Tensor) -> list[int]:
    return [read_barcode(image.permute(1, 2, 0).numpy()) for image in images]


def check_sample(sample, first: int, length: int) -> None:
    """Every frame and value of a windowed sample is the one LeRobot's arithmetic asks for."""
    step = int(sample["frame_index"])
    for offsets, keys in (
        (OBSERVED, ("observation.state", "observation.images.front", "observation.images.wrist")),
        (ACTED, ("action",)),
    ):
        wanted = step + offsets
        rows, pad = np.clip(wanted, 0, length - 1), (wanted < 0) | (wanted >= length)
        for key in keys:
            assert sample[f"{key}_is_pad"].tolist() == pad.tolist()
            if key.startswith("observation.images"):
                shift = 1_000 if key.endswith("wrist") else 0
                assert codes(sample[key]) == (first + rows + shift).tolist()
            else:
                scale = 0.5 if key == "action" else 1.0
                assert sample[key][:, 0].tolist() == ((first + rows) * scale).tolist()


def test_every_step_of_every_episode_through_windows(toys):
    known = truth(toys)
    for name, lengths in LENGTHS.items():
        dataset = load(f"dataset:{name}", toys, windows=WINDOWS)
        assert len(dataset) == sum(lengths)
        seen = set()
        for position in range(len(dataset)):
            sample = dataset[position]
            check_sample(sample, *known[sample["episode_id"]])
            seen.add((sample["episode_id"], int(sample["frame_index"])))
        assert len(seen) == len(dataset)


def test_a_mixture_follows_its_plan(toys):
    report = mix(toys, toy_spec("loaded", windows=WINDOWS))
    mixture, known = open_mixture(toys, "loaded"), truth(toys)
    dataset = load("loaded", toys)
    assert len(dataset) == 1_000
    positions = [0, 1, 2, 3, 500, 501, 999]
    draws = mixture.plan.draw(positions)
    for n, sample in enumerate(dataset.__getitems__(positions)):
        name = ("toy_a", "toy_b")[draws.source[n]]
        rows, steps = mixture.index.find(name, "train", draws.item[n : n + 1])
        assert (sample["source"], sample["dataset"], int(sample["index"])) == (name, name, positions[n])
        assert sample["episode_id"] == mixture.index.row(rows[0]).episode_id
        assert int(sample["frame_index"]) == steps[0]
        assert sample["timestamp"] == pytest.approx(steps[0] / FPS)
        assert sample["task"] in ("task 0", "task 1")
        check_sample(sample, *known[sample["episode_id"]])
    assert load(f"mixture:loaded@{report.hash[:8]}", toys).order.hash == dataset.order.hash
    assert load(mixture).order.hash == dataset.order.hash


def test_without_windows_there_is_no_time_axis(toys):
    sample = load("toy_a", toys)[3]
    assert sample["observation.images.front"].shape == (3, 64, 64)
    assert sample["observation.images.front"].dtype == torch.uint8
    assert sample["observation.state"].shape == sample["action"].shape == (4,)
    assert not [k for k in sample if k.endswith("_is_pad")]
    assert sample["timestamp"].dtype == torch.float32
    assert sample["frame_index"].dtype == torch.int64


def test_offsets_per_key_like_lerobot(toys):
    windows = {"observation.images.front": [-0.05, 0.0], "action": [0.0, 0.05, 0.1]}
    sample = load("toy_a", toys, windows=windows)[0]
    assert sample["observation.images.front"].shape == (2, 3, 64, 64)
    assert sample["observation.images.front_is_pad"].tolist() == [True, False]
    assert sample["action"].shape == (3, 4)
    assert sample["observation.images.wrist"].shape == (3, 64, 64)


def test_keys_and_image_size(toys):
    dataset = load("toy_a", toys, keys=["observation.images.wrist"], image_size=(32, 48))
    sample = dataset[5]
    assert sample["observation.images.wrist"].shape == (3, 32, 48)
    assert not {"action", "observation.state", "observation.images.front"} & set(sample)
    image = sample["observation.images.wrist"]
    assert int(image[:, :, :8].max()) == int(image[:, :, 40:].max()) == 0  # borders left and right keep the aspect
    assert read_barcode(image[:, :, 8:40].permute(1, 2, 0).numpy()) == 1_005


@pytest.mark.parametrize("world", [1, 2, 4])
def test_p3_ranks_together_load_the_global_order(toys, world):
    mix(toys, toy_spec("ranks", samples=103, statistics=False))
    dataset = load("ranks", toys)
    ranks = [list(dataset.batches(8, rank=r, world=world)) for r in range(world)]
    assert {len(r) for r in ranks} == {12}
    together = [position for batch in zip(*ranks, strict=True) for part in batch for position in part]
    assert together == list(range(96))
    rest = [list(dataset.batches(8, rank=r, world=world, drop_last=False))[-1] for r in range(world)]
    assert [p for part in rest for p in part] == list(range(96, 103))


def test_p4_resume_in_another_world(toys):
    mix(toys, toy_spec("resumed", samples=200, statistics=False))
    dataset = load("resumed", toys)
    before = dataset.batches(12, rank=1, world=3)
    state = before.state(5)
    assert state == {"plan": dataset.order.hash, "position": 60}
    after = list(dataset.batches(10, resume=state))
    assert [p for batch in after for p in batch] == list(range(60, 200))
    mix(toys, toy_spec("another", samples=200, seed=5, statistics=False))
    with pytest.raises(UsageError, match="belongs to plan"):
        load("another", toys).batches(12, resume=state)
    with pytest.raises(UsageError, match="use a multiple of 5"):
        dataset.batches(12, world=5)
    with pytest.raises(UsageError, match="not inside"):
        dataset.batches(12, resume=state | {"position": 201})


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 5 worker processes:UserWarning")
def test_p3_workers_change_nothing(toys):
    mix(toys, toy_spec("workers", samples=60, statistics=False, windows=WINDOWS))
    dataset, known = load("workers", toys), truth(toys)
    batches = {}
    for workers in (0, 2, 5):
        loader = DataLoader(dataset, batch_sampler=dataset.batches(12), collate_fn=dataset.collate, num_workers=workers)
        batches[workers] = list(loader)
    for batch in batches[0]:
        assert batch["observation.images.front"].shape == (12, 3, 3, 64, 64)
        for i, episode in enumerate(batch["episode_id"]):
            check_sample({k: v[i] for k, v in batch.items() if k not in ("task", "dataset", "source")}, *known[episode])
    for workers in (2, 5):
        for a, b in zip(batches[0], batches[workers], strict=True):
            assert a["index"].tolist() == b["index"].tolist()
            assert torch.equal(a["observation.images.front"], b["observation.images.front"])
            assert torch.equal(a["action"], b["action"])


def test_held_out_steps_come_once_in_order(toys):
    mix(toys, toy_spec("heldout", split=SplitSpec(0.3, "b")))
    mixture, val = open_mixture(toys, "heldout"), load("heldout", toys, split="val")
    seen = [(s["episode_id"], int(s["frame_index"])) for s in val.__getitems__(range(len(val)))]
    assert len(seen) == len(set(seen)) == sum(s.val_steps for s in mixture.shares) > 0
    assert {e for e, _ in seen} == set(mixture.episode_ids("val"))


@dataclass(frozen=True)
class OddSource(ToySource):
    """Human-like video beside the toys: no action, another picture size, a camera that opens late; or a robot that pads."""

    human: bool = True

    def contract(self) -> Contract:
        base = replace(super().contract(), embodiment="odd")
        if not self.human:
            wide = Feature("action", "float64", (6,), role="action")
            return replace(
                base, last_action_valid=False, features=(wide, Feature("gripper", "float32", (), role="state")), cameras=()
            )
        late = Camera("front", width=64, height=64)
        hidden = Camera("secret", width=64, height=64, privileged=True)
        return replace(base, kind="human", features=(), cameras=(late, hidden), control_hz=None)

    def groups(self) -> list[Group]:
        return [Group("all", 1, 1, [self.human], (0,))]

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        draft = self.episode_of(ToySource.episode(ToySource(lengths=(6,)), 0))
        yield draft

    def episode_of(self, toy: EpisodeDraft) -> EpisodeDraft:
        times = toy.steps.column("t_ns").to_numpy()
        if not self.human:
            action = np.arange(6)[:, None] + np.zeros((6, 6))
            steps = build_steps(self.contract(), times, {"action": action, "gripper": np.arange(6.0)})
            return EpisodeDraft("0", steps)
        steps = build_steps(self.contract(), times, {}, frames={"front": np.array([-1, -1, 0, 1, 2, 3], np.int32)})
        return EpisodeDraft("0", steps, toy.tracks[:1])


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    lake = Lake.at(tmp_path_factory.mktemp("odd") / "lake")
    ingest_toy(lake, ToySource(options=SourceOptions("toy_a"), lengths=SMALL))
    ingest_toy(lake, OddSource(options=SourceOptions("human")))
    ingest_toy(lake, OddSource(options=SourceOptions("wide"), human=False))
    return lake


def test_what_a_source_lacks_is_absent_from_its_samples(odd):
    human = load("human", odd)
    assert "observation.images.front" not in human[0]  # the camera opens at step 2
    assert read_barcode(human[2]["observation.images.front"].permute(1, 2, 0).numpy()) == 0
    assert human[2]["task"] == ""
    assert not {"action", "observation.state", "observation.images.secret"} & set(human[2])
    windowed = load("human", odd, windows=WindowSpec(observation_s=(-0.1, -0.05, 0.0)))[3]
    assert windowed["observation.images.front_is_pad"].tolist() == [True, False, False]
    assert int(windowed["observation.images.front"][0].max()) == 0
    assert codes(windowed["observation.images.front"][1:]) == [0, 1]
    assert "observation.images.secret" in {
        f.key for f in load("human", odd, keys=["observation.images.secret"]).reader.fields["human"]
    }


def test_a_padding_last_action_is_padding(odd):
    wide = load("wide", odd, windows=WindowSpec(action_horizon_s=0.2))
    sample = wide[3]
    assert sample["action"][:, 0].tolist() == [3, 4, 4, 4]
    assert sample["action_is_pad"].tolist() == [False, False, True, True]
    assert bool(load("wide", odd)[5]["action_is_pad"])
    assert not bool(load("wide", odd)[4]["action_is_pad"])
    assert sample["gripper"].dtype == torch.float32
    assert sample["gripper"].shape == ()


@pytest.fixture(scope="module")
def everything(odd):
    sources = tuple(SourceSpec(n) for n in ("toy_a", "human", "wide"))
    windows = WindowSpec(observation_s=(-0.05, 0.0), action_horizon_s=0.2, action_hz=20)
    mix(odd, toy_spec("all", samples=60, sources=sources, windows=windows))
    return load("all", odd)


def test_one_batch_of_all_of_them(everything):
    dataset = everything
    batch = next(iter(DataLoader(dataset, batch_sampler=dataset.batches(30), collate_fn=dataset.collate)))
    names = np.array(batch["source"])
    assert (np.bincount(np.unique(names, return_inverse=True)[1]) == 10).all()
    a, human, wide = (torch.from_numpy(names == n) for n in ("toy_a", "human", "wide"))
    assert batch["action"].shape == (30, 4, 6)
    assert batch["action"].dtype == torch.float64
    assert batch["action_is_pad"][human].all()
    assert not batch["action_is_pad"][a][:, 0].any()
    assert batch["action_dim_is_pad"][a].tolist() == [[False] * 4 + [True] * 2] * 10
    assert not batch["action_dim_is_pad"][wide].any()
    assert batch["action_dim_is_pad"][human].all()
    assert (batch["action"][a][:, :, 4:] == 0).all()
    assert batch["observation.images.front"].shape == (30, 2, 3, 64, 64)
    assert batch["observation.images.front_is_pad"][wide].all()
    assert batch["observation.state_is_pad"][human | wide].all()
    assert batch["gripper_is_pad"].tolist() == (~wide).tolist()
    assert batch["gripper"].shape == (30,)
    for i in torch.nonzero(a)[:, 0].tolist():
        shown = codes(batch["observation.images.front"][i])
        assert shown == batch["observation.state"][i, :, 0].int().tolist()


def test_batches_have_the_same_keys_whatever_they_drew(everything):
    singles = DataLoader(everything, batch_sampler=everything.batches(1), collate_fn=everything.collate)
    shapes = [{k: v.shape[1:] for k, v in batch.items() if isinstance(v, torch.Tensor)} for batch in singles]
    assert len(shapes) == 60
    assert all(s == shapes[0] for s in shapes)


def test_refusals(toys, odd):
    with pytest.raises(UsageError, match=r"no dataset here has 'observation.images.frnt': did you mean observation.images.front"):
        load("toy_a", toys, keys=["observation.images.frnt"])
    with pytest.raises(UsageError, match="no dataset here has 'actions'"):
        load("toy_a", toys, windows={"actions": [0.0]})
    with pytest.raises(UsageError, match="holds nothing out"):
        load("toy_a", toys, split="val")
    mix(toys, toy_spec("whole", statistics=False))
    with pytest.raises(UsageError, match=r"has no val step; set split\.val"):
        load("whole", toys, split="val")
    with pytest.raises(IndexError):
        load("toy_a", toys)[46]
    with pytest.raises((UsageError, LakeError), match="nothing_here"):
        load("nothing_here", toys)
    assert load("human", odd, windows=WindowSpec(action_horizon_s=1.0))  # no action, so no rate is needed
