"""Statistics of the train split: true quantiles, never pooled across action spaces, independent of sharding."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from catalog.lake import Lake
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.mixture.statistics import Statistics
from pipelines.shards.reader import open_shard
from pipelines.sources.base import SourceOptions
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.mixture import SourceSpec, SplitSpec
from tests.support.mixtures import LARGE, SMALL, toy_spec
from tests.support.toys import ToySource, ingest_toy
from transforms.columns import feature_array
from transforms.quantiles import ALPHA, EPSILON

SCOPE = "toy_arm/4/delta"


@dataclass(frozen=True)
class LazyToy(ToySource):
    """A toy whose last action is padding, on another robot."""

    def contract(self) -> Contract:
        return replace(super().contract(), embodiment="lazy_arm", last_action_valid=False)


def pooled(lake, mixture, feature, split="train"):
    """Every value of a feature in one split, straight from the shards."""
    parts = []
    for number in range(len(mixture.index)):
        row = mixture.index.row(number)
        if row.split == split:
            shard = open_shard(lake, row.dataset, row.shard)
            parts.append(feature_array(shard.episode_steps(row.episode_id), shard.contract.feature(feature)))
    return np.concatenate(parts).astype(np.float64)


def test_figures_are_those_of_the_pooled_train_steps(toys):
    mix(toys, toy_spec("stats", split=SplitSpec(0.3, "b")))
    mixture = open_mixture(toys, "stats")
    for feature in ("observation.state", "action"):
        values, found = pooled(toys, mixture, feature), mixture.statistics.get(SCOPE, feature)
        assert found.count == len(values) == sum(s.steps for s in mixture.shares)
        assert found.shape == (4,)
        assert found.mean == pytest.approx(values.mean(0), abs=1e-9)
        assert found.std == pytest.approx(values.std(0), abs=1e-8)
        assert found.min == tuple(values.min(0))
        assert found.max == tuple(values.max(0))
        for name, share in {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}.items():
            assert getattr(found, name) == pytest.approx(
                np.quantile(values, share, axis=0, method="lower"), rel=ALPHA, abs=EPSILON
            )
    assert len(pooled(toys, mixture, "action", "val")) > 0  # and they were left out


def test_any_sharding_gives_the_same_hash(tmp_path):
    hashes = set()
    for per_group in (1, 2, 6):
        lake = Lake.at(tmp_path / f"lake{per_group}")
        for name, lengths in (("toy_a", SMALL), ("toy_b", LARGE)):
            ingest_toy(lake, ToySource(options=SourceOptions(name), lengths=lengths, per_group=per_group))
        hashes.add(mix(lake, toy_spec(image_frames=6)).statistics.hash)
    assert len(hashes) == 1


def test_robots_are_not_pooled_and_padding_actions_do_not_count(lake):
    ingest_toy(lake, ToySource(options=SourceOptions("toy_a")))
    ingest_toy(lake, LazyToy(options=SourceOptions("lazy")))
    statistics = mix(lake, toy_spec(sources=(SourceSpec("toy_a"), SourceSpec("lazy")))).statistics
    assert {r.scope for r in statistics.rows} == {SCOPE, "lazy_arm/4/delta"}
    assert statistics.get(SCOPE, "action").count == 46
    assert statistics.get("lazy_arm/4/delta", "observation.state").count == 46
    assert statistics.get("lazy_arm/4/delta", "action").count == 46 - len(SMALL)
    assert statistics.get("lazy_arm/4/delta", "action").max[0] == pytest.approx(44 * 0.5)  # step 45 is the padding
    with pytest.raises(UsageError, match=r"nothing; there is .*toy_arm/4/delta: action"):
        statistics.get(SCOPE, "gripper")


def test_an_episode_of_two_sources_counts_once(toys):
    twice = mix(toys, toy_spec("twice", sources=(SourceSpec("toy_a"), SourceSpec("again", "toy_a"))))
    assert twice.statistics.get(SCOPE, "action").count == 46


def test_colours_are_those_of_the_chosen_pictures(toys):
    mix(toys, toy_spec("colours", image_frames=1_000))  # more than there are: every picture once
    found = open_mixture(toys, "colours").statistics
    assert [(i.scope, i.camera, i.frames) for i in found.images] == [(SCOPE, "front", 97), (SCOPE, "wrist", 97)]
    pixels = []
    index = open_mixture(toys, "colours").index
    for number in range(len(index)):
        row = index.row(number)
        shard = open_shard(toys, row.dataset, row.shard)
        pixels.append(shard.read(row.episode_id, "front", np.arange(row.steps)).reshape(-1, 3))
    pooled, front = np.concatenate(pixels).astype(np.float64), found.images[0]
    assert front.count == len(pooled)
    assert front.mean == pytest.approx(pooled.mean(0))
    assert front.std == pytest.approx(pooled.std(0))
    assert (front.min, front.max) == (tuple(pooled.min(0)), tuple(pooled.max(0)))
    for name, share in {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}.items():
        assert getattr(front, name) == tuple(np.quantile(pooled, share, axis=0, method="lower"))
    assert len(Statistics.from_json(found.to_json()).images) == 2
    few = mix(toys, toy_spec("few", image_frames=5)).statistics
    assert [i.frames for i in few.images] == [10, 10]  # of two datasets
    assert few.hash != found.hash
    assert few.rows == found.rows


def test_can_be_turned_off(toys):
    report = mix(toys, toy_spec("plain", statistics=False))
    assert report.statistics is None
    assert open_mixture(toys, "plain").statistics is None
    assert not toys.fs.exists(toys.path(report.uri, "stats.json"))
