"""Novel states, objects and scenes (ARNOLD): each factor is held out alone, and goals hold in the script that made the recording."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotations import read_annotations
from pipelines.curate.splits import assign
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.unit import run_stage
from schemas.errors import UsageError
from schemas.split import FactorSpec, SharesSpec, SplitSetSpec
from tests.support.cups import CupSource
from tests.support.scripts import make_script

HERE = Execution(workers=0)
SEEDS = tuple(range(24))
STATE = FactorSpec("goal.red cup.shift_m", "range", quantile=0.75, name="state")
OBJECT = FactorSpec("object", hold=("blue cup",), name="object")
SCENE = FactorSpec("scene", hold=("scene 2",), name="scene")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake.at(tmp_path_factory.mktemp("goals") / "lake")
    run_stage(IngestStage(made, CupSource(seeds=SEEDS, per_group=24)), execution=HERE)
    run_stage(AnnotateStage.named(made, "text", "all", {"kinds": ["goal"]}), execution=HERE)
    return made


def facts(lake: Lake) -> pl.DataFrame:
    """What each episode is about, read without the splits' own code."""
    episodes = Catalog(lake).latest("episodes").collect()
    goals = read_annotations(Catalog(lake), "text", episodes).filter(pl.col("answer") == "reached", "valid", template="shift_m")
    about = [json.loads(a) for a in episodes["attributes"]]
    named = pl.DataFrame({
        "episode_id": episodes["episode_id"], "seed": episodes["key"].cast(pl.Int64), "object": [a["object"] for a in about],
        "scene": [a["scene"] for a in about],
    })  # fmt: skip
    return named.join(goals.select("episode_id", "goal_value", "goal_tolerance"), on="episode_id", how="left")


@pytest.mark.parametrize("factor", [STATE, OBJECT, SCENE], ids=lambda f: f.name)
def test_training_and_test_share_no_value_of_the_factor(lake: Lake, factor: FactorSpec) -> None:
    rows = assign(lake, SplitSetSpec("arnold", factors=(factor,), shares=SharesSpec(0.0, 0.2))).rows.join(
        facts(lake), on="episode_id"
    )
    column = "goal_value" if factor is STATE else factor.factor
    trained, novel = (
        set(rows.filter(pl.col("split") == s)[column].drop_nulls().to_list()) for s in ("train", f"ood_test.{factor.name}")
    )
    assert trained
    assert novel
    assert not trained & novel
    if factor is STATE:
        assert max(trained) < min(novel)
    others = {"object", "scene"} - {factor.factor}
    for other in others:  # one factor at a time: the rest is as in training
        assert set(rows.filter(pl.col("split") == f"ood_test.{factor.name}")[other]) <= set(
            rows.filter(pl.col("split") == "train")[other]
        )


def test_a_split_by_chance_is_not_disjoint(lake: Lake) -> None:
    """The adversarial twin."""
    plain = assign(lake, SplitSetSpec("chance", shares=SharesSpec(0.0, 0.4))).rows.join(facts(lake), on="episode_id")
    train, test = (set(plain.filter(pl.col("split") == s)["object"]) for s in ("train", "test"))
    assert train & test


def test_goals_hold_in_the_script_and_cover_their_range(lake: Lake) -> None:
    known = facts(lake).drop_nulls("goal_value")
    assert known.height > 15
    for seed, value, tolerance in known.select("seed", "goal_value", "goal_tolerance").iter_rows():
        cup = make_script(seed).cup
        assert abs(np.linalg.norm(cup[:2, -1] - cup[:2, 0]) - value) <= tolerance
    values = known["goal_value"].to_numpy()
    assert kstest(values / values.max(), "uniform").statistic < 0.5
    assert kstest(np.full(20, 1.0), "uniform").statistic > 0.5, "one value covers nothing"


def test_a_goal_nobody_reached_is_told(lake: Lake) -> None:
    factor = FactorSpec("goal.green cup.height_m", "range", above=0.1)
    with pytest.raises(UsageError, match=r"goal\.red cup\.shift_m"):
        assign(lake, SplitSetSpec("none", factors=(factor,)))
