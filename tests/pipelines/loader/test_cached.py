"""Caches joined to samples and batches by row id."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from catalog.lake import Lake
from pipelines.ingest import IngestStage
from pipelines.loader.load import load
from pipelines.residuals.store import open_cache
from pipelines.sources.base import SourceOptions
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.pipelines.residuals.test_stage import Nudged
from tests.support.mixtures import ingest_two_toys
from tests.support.residuals import HERE, HORIZON, WIDTH, cache, head_teacher, mix_toys, stage_of, tiny_teacher


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = mix_toys(ingest_two_toys(Lake.at(tmp_path_factory.mktemp("cached") / "lake")))
    cache(lake, tiny_teacher(), draws=3)
    run_stage(stage_of(lake, head_teacher("states", "hidden"), sources=("toy_b",), mode="hidden"), execution=HERE)
    return lake


def test_samples_get_the_row_of_their_frame(cached: Lake) -> None:
    data, held = load("toys", cached, residuals=["tiny"]), open_cache(cached, "tiny")
    drawn = set()
    for position in range(0, 60, 7):
        sample = data[position]
        draw = int(sample["residual.tiny.draw"])
        row = held.row(sample["episode_id"], int(sample["frame_index"]), draw)
        wanted = held.take([row or 0], ["residual", "noise", "action", "tau_a"])
        for name, values in wanted.items():
            assert np.array_equal(sample[f"residual.tiny.{name}"].numpy(), values[0])
        assert sample["residual.tiny.action"].numpy() == pytest.approx(sample["action"].float().numpy())
        drawn.add(draw)
    assert len(drawn) > 1
    assert torch.equal(data[5]["residual.tiny.residual"], data[5]["residual.tiny.residual"])


def test_batches_hold_what_is_cached_and_mask_what_is_not(cached: Lake) -> None:
    data = load("toys", cached, keys=["action"], residuals=["tiny", "states"])
    batch = data.batch(range(40))
    assert batch["residual.tiny.residual"].shape == (40, HORIZON, WIDTH)
    assert batch["residual.tiny.residual"].dtype == torch.float16
    assert not batch["residual.tiny.residual_is_pad"].any()
    missing = torch.tensor([d != "toy_b" for d in batch["dataset"]])
    assert torch.equal(batch["residual.states.hidden_is_pad"], missing)
    again = next(iter(data.loader(40, threads=1)))
    assert torch.equal(again["residual.tiny.v_base"], batch["residual.tiny.v_base"])


def test_a_join_travels_to_worker_processes(cached: Lake) -> None:
    data = load("toys", cached, keys=["action"], residuals=["tiny"])
    small = pickle.loads(pickle.dumps(data.reader.cached[0]))
    assert len(pickle.dumps(small)) < 10_000
    batches = DataLoader(data, batch_sampler=data.batches(20), collate_fn=data.collate, num_workers=1)
    assert torch.equal(next(iter(batches))["residual.tiny.tau_a"], data.batch(range(20))["residual.tiny.tau_a"])


def test_rows_of_a_changed_episode_are_not_joined(lake: Lake) -> None:
    mix_toys(ingest_two_toys(lake))
    cache(lake, tiny_teacher(), draws=1)
    run_stage(IngestStage(lake, Nudged(options=SourceOptions("toy_a"), lengths=(12, 9, 15, 10))), execution=HERE)
    mix_toys(lake)
    held = load("toys", lake, residuals=["tiny"]).reader.cached[0].cache
    assert len(held.episodes) == 9
    with pytest.raises(UsageError, match="nothing is cached for it"):
        load("toys", lake, residuals=["other"])
