"""Episodes that look like the target get the weight, once per content, from summaries or from somebody's own embeddings."""

import json
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.mixture.compile import compile_mixture
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import SourceOptions
from pipelines.unit import run_stage
from pipelines.weigh.embed import read_embeddings, shared_features, summarise
from pipelines.weigh.stage import WeighStage
from schemas.errors import UsageError
from schemas.mixture import ResamplingSpec, SourceSpec, WeightSpec
from tests.support.mixtures import toy_spec
from tests.support.toys import FPS, SECOND, ToySource, ingest_toy


@dataclass(frozen=True)
class Reaches(ToySource):
    """Episodes without pictures that reach for `goal` (first coordinate of the last state), with noise by number."""

    goals: tuple[float, ...] = ()

    def episode(self, index: int) -> EpisodeDraft:
        count = self.lengths[index]
        rng, times = np.random.default_rng((index, len(self.goals))), np.arange(count, dtype=np.int64) * SECOND // FPS
        state = rng.normal(size=(count, 4)) * 0.1
        state[:, 0] += np.linspace(0, self.goals[index], count)
        steps = build_steps(self.contract(), times, {"observation.state": state, "action": state * 0.5}, language="reach")
        return EpisodeDraft(str(index), steps, (), success=True, uri=self.uri)


@pytest.fixture(scope="module")
def reaches(tmp_path_factory) -> Lake:
    """24 target episodes reach for 1; of the prior's 60, every third does, the others reach for -1."""
    lake = Lake.at(tmp_path_factory.mktemp("weigh") / "lake")
    ingest_toy(lake, Reaches(options=SourceOptions("target"), lengths=(8,) * 24, goals=(1.0,) * 24, per_group=24))
    goals = tuple(1.0 if n % 3 == 0 else -1.0 for n in range(60))
    ingest_toy(lake, Reaches(options=SourceOptions("prior"), lengths=(8,) * 60, goals=goals, per_group=60))
    return lake


def alike(lake, method):
    rows = Catalog(lake).latest("scores").filter(pl.col("method") == method).collect()
    keys = Catalog(lake).latest("episodes").select("episode_id", "key").collect()
    both = rows.join(keys, on="episode_id").with_columns(alike=pl.col("key").cast(pl.Int64) % 3 == 0)
    return both, both.filter("alike")["value"].to_numpy(), both.filter(~pl.col("alike"))["value"].to_numpy()


@pytest.mark.parametrize("backend", ["clf", "kde", "nn"])
def test_every_back_end_tells_the_alike_from_the_rest(reaches, backend):
    stage = WeighStage(reaches, "target", "prior", backend, method=f"ratio_{backend}")
    report = run_stage(stage, execution=Execution(workers=0))
    assert report.total("rows") == 60
    rows, near, far = alike(reaches, f"ratio_{backend}")
    assert len(near) == 20
    assert (near[:, None] > far[None]).mean() > (0.7 if backend == "nn" else 0.97)
    assert rows["end_ns"].null_count() == 60
    assert np.exp(rows["value"].to_numpy()).mean() == pytest.approx(1)
    assert run_stage(stage, execution=Execution(workers=0)).worked == 0


def test_a_mixture_draws_more_of_them(reaches, capsys):
    assert run(["weigh", "--target", "target", "--prior", "prior", "--lake", reaches.root, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["moment_residual"] < 0.6 * told["moment_residual_unweighted"]
    assert told["features"] == ["observation.state", "action"]
    terms = (WeightSpec(score="density_ratio", low=-3),)
    spec = toy_spec("ratio", sources=(SourceSpec("prior"),), weights=terms, resampling=ResamplingSpec(0, 0), statistics=False)
    compiled = compile_mixture(reaches, spec)
    rows, _, _ = alike(reaches, "density_ratio")
    weights = compiled.index.frame().join(rows.select("episode_id", "alike"), on="episode_id")
    mass = (weights["weight"] * weights["steps"]).to_numpy()
    assert mass[weights["alike"].to_numpy()].sum() / mass.sum() > 0.75  # a third of the episodes without weights
    assert compiled.shares[0].ess == pytest.approx(told["ess"] / 60, rel=0.1)
    assert run(["weigh", "--target", "target", "--prior", "prior", "--lake", reaches.root]) == 0
    assert "nothing to do, already wrote density_ratio@fp-" in capsys.readouterr().out


def test_summaries_are_what_they_say(reaches):
    episodes = Catalog(reaches).latest("episodes").filter(pl.col("dataset") == "prior").sort("first_row").head(2).collect()
    found = summarise(reaches, episodes, ["observation.state"])
    draft = Reaches(lengths=(8,) * 60, goals=tuple(1.0 if n % 3 == 0 else -1.0 for n in range(60))).episode(
        int(episodes["key"][0])
    )
    state = np.asarray(draft.steps.column("observation.state").to_pylist())
    assert found.shape == (2, 16)
    assert found[0] == pytest.approx(np.concatenate([state.mean(0), state.std(0), state[0], state[-1]]), abs=1e-6)


def test_embeddings_of_ones_own(reaches, tmp_path):
    episodes = Catalog(reaches).latest("episodes").collect()
    ids = episodes["episode_id"].to_list()
    axis = [1.0 if k == "target" or int(n) % 3 == 0 else -1.0 for k, n in episodes.select("dataset", "key").iter_rows()]
    jitter = np.random.default_rng(0).normal(size=(len(ids), 2)) * 0.2
    vectors = [[a + x, y] for a, (x, y) in zip(axis, jitter, strict=True)]
    path = tmp_path / "mine.parquet"
    pl.DataFrame({"episode_id": ids + ids[:1], "vector": [*vectors, [v + 2 for v in vectors[0]]]}).write_parquet(path)
    assert read_embeddings(path, episodes.head(1))[0] == pytest.approx(np.asarray(vectors[0]) + 1)  # the mean of two rows
    run_stage(WeighStage(reaches, "target", "prior", embeddings=str(path), method="mine"), execution=Execution(workers=0))
    _, near, far = alike(reaches, "mine")
    assert near.min() > far.max()
    pl.DataFrame({"episode_id": ids[:3], "x": [1.0, 2.0, 3.0]}).write_parquet(path)
    with pytest.raises(UsageError, match="no whole embedding of 81 episodes"):
        read_embeddings(path, episodes)


def test_refusals(reaches, tmp_path):
    with pytest.raises(UsageError, match="no back-end 'tree'"):
        WeighStage(reaches, "target", "prior", "tree")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="leave them out"):
        WeighStage(reaches, "target", "prior", features=("action",), embeddings="x.parquet")
    with pytest.raises(UsageError, match=r"x\.parquet is not a file"):
        WeighStage(reaches, "target", "prior", embeddings=str(tmp_path / "x.parquet")).plan()
    with pytest.raises(UsageError, match=r"torque is not one numeric feature"):
        shared_features([ToySource().contract()], ["torque"])
