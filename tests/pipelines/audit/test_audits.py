"""Audits over lakes, the ledger they write, and the command."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from catalog.tables import Catalog
from pipelines.audit.ledger import Finding, read, record
from pipelines.audit.reasoning import choose_steps, grips
from pipelines.audit.run import audit
from pipelines.audit.simple import LeakageAudit
from pipelines.audit.windows import WindowConfig, canonical, take_windows
from pipelines.cli.app import run
from pipelines.mixture.mix import mix
from pipelines.selection import choose
from pipelines.shards.reader import open_shard
from schemas.errors import UsageError
from schemas.mixture import SplitSpec
from tests.support.arrays import Numbers, ingest_numbers
from tests.support.mixtures import ingest_two_toys, toy_spec
from transforms.embedding import SIZE
from transforms.pruning import PruneConfig


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _episodes(count: int = 6, task: str = "") -> list[Numbers]:
    rng = np.random.default_rng(0)
    return [
        Numbers(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), task or f"task {i % 2}", f"scene {i % 3}")
        for i in range(count)
    ]


def test_findings_are_appended_once(lake):
    finding = Finding("m", 1.0, (0.5, 1.5), 3, "ok", "fine", {"k": [1]})
    assert record(lake, "all", "c1", "fp", [finding]) == 1
    assert record(lake, "all", "c1", "fp", [finding, Finding("n", None, None, 0, "not-measurable", "no truth")]) == 1
    assert record(lake, "all", "c2", "fp", [finding]) == 1
    rows = read(lake, "all")
    assert rows["metric"].to_list() == ["m", "n", "m"]
    assert json.loads(rows["detail"][0]) == {"k": [1]}
    assert read(lake, "other").is_empty()


def test_coverage_warns_where_a_scene_is_lost(lake):
    ingest_numbers(lake, _episodes())
    whole = {f.metric: f for f in audit(lake, "all", ["coverage"])}
    assert whole["coverage_scene"].value == pytest.approx(np.log(3))
    assert {f.verdict for f in whole.values()} == {"ok"}
    part = {f.metric: f for f in audit(lake, "split_group != 'scene 0'", ["coverage"])}
    assert part["coverage_scene"].verdict == "warn"
    assert part["coverage_task"].verdict == "ok"
    assert "keeps 0%" in part["coverage_scene"].sentence


def test_saturation_sees_clipped_actions_and_ignores_grippers(lake):
    rng = np.random.default_rng(0)
    free, switch = rng.normal(size=(40, 1)), np.sign(rng.normal(size=(40, 1)))
    ingest_numbers(lake, [Numbers(free, np.concatenate([free, switch], 1))], "fine")
    ingest_numbers(lake, [Numbers(free, np.concatenate([np.clip(free, -0.5, 0.5), switch], 1))], "clipped")
    assert [f.verdict for f in audit(lake, "fine", ["saturation"])] == ["ok"]
    (found,) = audit(lake, "clipped", ["saturation"])
    assert found.verdict == "warn"
    assert found.value == pytest.approx((np.abs(free) >= 0.5).mean(), abs=0.01)
    assert list(found.detail["dimensions"]) == ["0"]


def test_leakage_is_found_and_a_clean_mixture_passes(lake):
    ingest_two_toys(lake)
    mix(lake, toy_spec(split=SplitSpec(val=0.4, salt="s")))
    assert {f.verdict for f in audit(lake, "mixture:both", ["leakage"])} == {"ok"}
    assert [f.verdict for f in audit(lake, "toy_a", ["leakage"])] == ["not-measurable"]
    episodes = choose(lake, "all").episodes.with_columns(pl.lit("one scene").alias("split_group"))
    found, _ = LeakageAudit().run_splits(lake, episodes, ["train", "val"] * (episodes.height // 2))
    assert {f.metric: f.verdict for f in found}["leakage_split_group"] == "fail"


def test_windows_hold_pictures_instructions_and_actions(lake):
    ingest_two_toys(lake)
    episodes = choose(lake, "toy_a").episodes
    windows = take_windows(lake, episodes, WindowConfig(every_s=0.25, most=2))
    assert windows.seen.shape == (8, SIZE)
    assert windows.instructions == ("task 0", "task 1")
    assert windows.source.endswith(f"[{SIZE}]")
    assert windows.start_ns.reshape(4, 2).tolist() == [[0, 250_000_000]] * 4
    with pytest.raises(UsageError, match="no camera 'back'"):
        take_windows(lake, episodes, WindowConfig(camera="back"))


def test_windows_take_the_callers_embeddings(lake, tmp_path):
    ingest_numbers(lake, _episodes())
    episodes, path = choose(lake, "all").episodes, tmp_path / "seen.parquet"
    vectors = [[float(i), 1.0 - i] for i in range(episodes.height)]
    pl.DataFrame({"episode_id": episodes["episode_id"], "vector": vectors}).write_parquet(path)
    windows = take_windows(lake, episodes, WindowConfig(every_s=1, most=2, embeddings=str(path)))
    assert np.ptp(windows.seen.reshape(6, 2, 2), axis=1).max() == 0
    pl.DataFrame({"episode_id": ["ep-x"], "vector": [[0.0]]}).write_parquet(path)
    with pytest.raises(UsageError, match="no vector"):
        take_windows(lake, episodes, WindowConfig(embeddings=str(path)))


def test_instructions_are_told_apart_by_their_words_alone():
    assert canonical("  Pick  up the Cup. ") == canonical("pick up the cup")


def test_collapse_of_a_single_instruction_fails_and_scores_are_written_of_two(lake):
    ingest_numbers(lake, _episodes(task="do it"), "single")
    (found,) = audit(lake, "single", ["collapse"])
    assert (found.verdict, found.value) == ("fail", 0.0)
    ingest_numbers(lake, _episodes(8), "double")
    settings = {"collapse": {"hidden": 8, "epochs": 2, "permutations": 1, "every_s": 0.5, "most": 4}}
    (found,) = audit(lake, "double", ["collapse"], settings)
    assert found.n == 3
    rows = Catalog(lake).latest("scores").filter(pl.col("method") == "pmi").collect()
    assert rows.height == 32
    audit(lake, "double", ["collapse"], settings)
    assert Catalog(lake).scan("scores").collect().height == 32


def test_reasoning_is_pruned_around_the_grip(lake):
    rng = np.random.default_rng(0)
    state = np.cumsum(0.01 * rng.normal(size=(100, 2)), axis=0)
    grip = np.where(np.arange(100) < 50, 1.0, -1.0)[:, None]
    state[50:] += 1
    move = np.diff(state, axis=0, append=state[-1:])
    ingest_numbers(lake, [Numbers(state, np.concatenate([move, grip], 1))], gripper=True)
    row = choose(lake, "all").episodes.row(0, named=True)
    shard = open_shard(lake, row["dataset"], row["shard"])
    assert np.flatnonzero(grips(shard.steps, shard.contract)).tolist() == [50]
    _, keep = choose_steps(shard, row["episode_id"], [], PruneConfig(0.2))
    assert keep[50]
    assert keep.mean() <= 0.25
    (found,) = audit(lake, "all", ["reasoning"])
    assert found.verdict == "not-measurable", "there is no text to prune"
    spans = Catalog(lake).latest("scores").filter(pl.col("method") == "reasoning_keep").sort("start_ns").collect()
    assert spans["start_ns"][1:].to_list() == spans["end_ns"][:-1].to_list()


def test_the_command_says_what_it_found(lake, capsys):
    ingest_numbers(lake, _episodes(task="same"))
    assert run(["audit", "all", "--with", "coverage,collapse", "--lake", lake.root, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {f["metric"] for f in found["findings"]} == {"coverage_task", "coverage_scene", "coverage_embodiment", "collapse"}
    assert run(["query", "SELECT metric, verdict FROM audits", "--lake", lake.root]) == 0
    assert run(["audit", "all", "--with", "magic", "--lake", lake.root]) == 2
    assert run(["audit", "all", "--set", "every_s=1", "--lake", lake.root]) == 2
