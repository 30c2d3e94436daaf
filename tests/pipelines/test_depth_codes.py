"""From 16-bit depth pictures of a recording to depth tokens in a side table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from annotators.depth.model import DepthCodesSpec
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotations import read_annotations
from pipelines.depth_codes import train_depth_codes
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.record.recording import Header
from pipelines.record.rollout import DEPTH, Masks
from pipelines.record.writer import write_episode, write_header
from pipelines.selection import choose
from pipelines.shards.reader import open_shard
from pipelines.sources.base import SourceOptions
from pipelines.sources.recording import RecordingSource
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.toy_simulator import ToySimulator, toy_spec

HERE = Execution(workers=0)
SPEC = toy_spec(episodes=3, cameras=("front",), depth_hz=5, tasks=("stack",))


def depths(scene: int) -> np.ndarray:
    """Slopes from half a metre to three, beyond what eight bits hold, uint16[4, 64, 64] millimetres."""
    slope = np.linspace(500, 3000 - 100 * scene, 64)
    return np.stack([np.tile(slope[:, None] + 10 * i, (1, 64)) for i in range(3)]).astype(np.uint16)


@pytest.fixture
def recorded(lake: Lake, tmp_path: Path) -> Lake:
    torch.set_num_threads(1)
    simulator, out = ToySimulator(SPEC), tmp_path / "recording"
    contract = simulator.contract(("stack",))
    write_header(out, Header(SPEC, contract))
    for scene in SPEC.seeds:
        played = simulator.run("stack", scene)
        taken = Masks(np.arange(0, len(played.reward), SPEC.depth_every, dtype=np.int32), depths(scene))
        write_episode(out, contract, replace(played, masks=played.masks | {DEPTH + "front": taken}), gop=8)
    run_stage(IngestStage(lake, RecordingSource(str(out), SourceOptions("toy"))), execution=HERE)
    return lake


def test_depth_is_kept_to_the_millimetre_and_becomes_tokens(recorded: Lake) -> None:
    episodes = choose(recorded, "all").episodes
    shard = open_shard(recorded, "toy", episodes["shard"][0])
    kept = shard.read_masks(episodes["episode_id"][1], "depth.front", [0, 1, 2])
    assert kept.dtype == np.uint16
    assert np.array_equal(kept, depths(1))

    spec = DepthCodesSpec(codes=4, width=4, steps=2, batch=2)
    trained, again = (train_depth_codes(recorded, "all", spec) for _ in range(2))
    assert trained == again
    assert recorded.fs.exists(trained.path)
    assert 0 < trained.pictures <= 9
    stage = AnnotateStage.named(recorded, "depth_tokens", "all", {"weights": trained.path})
    report = run_stage(stage, execution=HERE)
    assert (report.count("done"), report.rejects) == (1, ())
    rows = read_annotations(Catalog(recorded), "depth_tokens", episodes)
    assert rows["valid"].all()
    assert rows["depth_tok"].list.len().to_list() == [100] * 9


def test_a_selection_without_depth_is_refused(lake: Lake, recorded: Lake) -> None:
    with pytest.raises(UsageError, match="no depth pictures"):
        train_depth_codes(recorded, "all", DepthCodesSpec(steps=1), camera="depth.wrist")
