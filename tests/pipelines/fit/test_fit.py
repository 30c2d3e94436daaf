"""Fitters on lakes of plain numbers: what they learn, what they write, and that they write it once."""

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.fit.deminf import DemInf, chunks
from pipelines.fit.frames import gather
from pipelines.fit.odice import Odice
from pipelines.fit.remix import Remix
from pipelines.fit.stage import FitStage
from pipelines.selection import choose
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.arrays import Numbers, ingest_numbers
from transforms.remix import EXCESS_LOG

HERE = Execution(workers=0)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _demos(count: int, noise: float, seed: int, steps: int = 40) -> list[Numbers]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        state = rng.normal(size=(steps, 2))
        made.append(Numbers(state, state[:, ::-1] + noise * rng.normal(size=state.shape), scene=f"s{i}"))
    return made


def test_deminf_ranks_noisy_demonstrations_last_and_writes_once(lake):
    ingest_numbers(lake, [*_demos(8, 0.05, 0), *_demos(8, 1.5, 1)])
    stage = FitStage(
        lake, DemInf(horizon_s=0, state_latent=2, action_latent=2, hidden=32, rate=3e-3, steps=60, batch=128, passes=1), "all"
    )
    assert run_stage(stage, execution=HERE).worked == 1
    rows = Catalog(lake).latest("scores").filter(pl.col("method") == "deminf").collect()
    keys = Catalog(lake).latest("episodes").select("episode_id", "key").collect()
    value = {int(k): v for k, v in rows.join(keys, on="episode_id").select("key", "value").iter_rows()}
    assert rows["fingerprint"].unique().to_list() == [stage.fingerprint]
    assert min(value[i] for i in range(8)) > max(value[i] for i in range(8, 16))
    again = run_stage(stage, execution=HERE)
    assert (again.worked, again.count("skipped")) == (0, 1)


def test_action_chunks_do_not_cross_episodes(lake):
    ingest_numbers(
        lake, [Numbers(np.zeros((3, 1)), np.array([[1.0], [2.0], [3.0]])), Numbers(np.zeros((2, 1)), np.array([[8.0], [9.0]]))]
    )
    frames = gather(lake, choose(lake, "all").episodes)[0]
    expected = [[1, 2], [2, 3], [3, 3], [8, 9], [9, 9]]
    assert chunks(frames, frames.action, 0.2).tolist() == expected
    assert chunks(frames, frames.action, 0.0).tolist() == frames.action.tolist()


def test_steps_that_are_not_finite_are_counted(lake):
    state = np.ones((4, 1))
    state[1] = np.nan
    ingest_numbers(lake, [Numbers(state, np.ones((4, 1)), success=True)])
    frames = gather(lake, choose(lake, "all").episodes)[0]
    assert (len(frames.episode), frames.dropped) == (3, 1)
    assert frames.reward.tolist() == [0, 0, 1]


def _corridor(right: float, seed: int) -> Numbers:
    """Walk a corridor of ten places; reward at its right end."""
    rng = np.random.default_rng(seed)
    place, states, actions = 0.0, [], []
    for _ in range(30):
        move = 1.0 if rng.random() < right else -1.0
        states.append([place])
        actions.append([move])
        place = float(np.clip(place + move, 0, 9))
    reward = (np.array(states)[:, 0] >= 8).astype(float)
    return Numbers(np.array(states), np.array(actions), reward=reward, scene=str(seed))


def test_odice_weighs_steps_towards_the_reward(lake):
    ingest_numbers(lake, [_corridor(0.6, s) for s in range(12)])
    frames = gather(lake, choose(lake, "all").episodes)[0]
    fitter = Odice(gamma=0.9, lam=0.6, hidden=32, rate=3e-3, average=0.05, steps=400, batch=128, reward_scale=2)
    state, _ = frames.standardised()
    delta = fitter.advantages(state, frames.reward * 2, frames.last)
    inside = ~frames.last & (frames.state[:, 0] > 0) & (frames.state[:, 0] < 8)
    right, left = delta[inside & (frames.action[:, 0] > 0)], delta[inside & (frames.action[:, 0] < 0)]
    assert right.mean() > left.mean() + 0.05
    rows = fitter.fit(lake, choose(lake, "all").episodes).scores
    assert (rows["value"] >= 0).all()
    assert (rows["end_ns"] - rows["start_ns"] == 1_000_000_000).all()


def test_odice_needs_something_to_go_by(lake):
    ingest_numbers(lake, [Numbers(np.ones((4, 1)), np.ones((4, 1)), success=False)])
    with pytest.raises(UsageError, match="no reward"):
        Odice(steps=1).fit(lake, choose(lake, "all").episodes)


def test_remix_moves_weight_to_what_the_reference_leaves_to_learn(lake):
    ingest_numbers(lake, _demos(6, 0.02, 0), "clean")
    rng = np.random.default_rng(1)
    ingest_numbers(lake, [Numbers(rng.normal(size=(40, 2)), rng.normal(size=(40, 2)), scene=f"n{i}") for i in range(6)], "noise")
    fit, log = Remix(hidden=32, steps=80, batch=64, rate=3e-3).fit(lake, choose(lake, "all").episodes)
    assert log.schema == EXCESS_LOG
    assert log.num_rows == 80 * 64
    assert fit.domains == ("clean", "noise")
    assert fit.shares.sum() == pytest.approx(1)
    assert log.column("step").to_pylist().count(0) == 64
    mean = pl.from_arrow(log).group_by("domain").agg(pl.col("excess").clip(0).mean()).rows()
    assert dict(mean) == pytest.approx(dict(zip(fit.domains, fit.excess, strict=True)), rel=1e-6)


def test_remix_needs_domains_that_agree(lake):
    ingest_numbers(lake, _demos(2, 0.1, 0))
    with pytest.raises(UsageError, match="at least two"):
        Remix(steps=1).fit(lake, choose(lake, "all").episodes)
    with pytest.raises(UsageError, match="no column"):
        Remix(steps=1).fit(lake, choose(lake, "all").episodes, by="planet")


def test_the_command_fits_scores_and_shares(lake, tmp_path, capsys):
    ingest_numbers(lake, _demos(3, 0.1, 0), "one")
    ingest_numbers(lake, _demos(3, 0.1, 1), "two")
    small = ["--set", "steps=2", "--set", "hidden=8", "--set", "state_latent=1", "--set", "action_latent=1", "--set", "passes=1"]
    assert run(["fit", "deminf", "one", "--lake", lake.root, *small]) == 0
    assert "3 scores" in capsys.readouterr().out
    assert run(["fit", "deminf", "one", "--lake", lake.root, *small]) == 0
    assert "nothing to do" in capsys.readouterr().out
    log = tmp_path / "excess.parquet"
    pq.write_table(
        EXCESS_LOG.empty_table().from_pylist([{"step": t, "domain": "one", "excess": 1.0} for t in range(50)], EXCESS_LOG), log
    )
    assert run(["fit", "remix", "all", "--log", str(log), "--lake", lake.root]) == 0
    out = capsys.readouterr().out
    assert 'name = "one"' in out
    assert run(["fit", "magic", "all", "--lake", lake.root]) == 2
