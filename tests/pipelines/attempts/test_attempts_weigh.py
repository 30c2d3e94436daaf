"""Corrections get the share of an epoch that was asked for, counted over what the mixture draws."""

import numpy as np
import pytest

from catalog.lake import Lake
from pipelines.attempts.stage import AttemptsStage
from pipelines.attempts.weigh import METHOD, weigh_corrections
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.unit import run_stage
from schemas.errors import UsageError
from schemas.mixture import MixtureSpec, ResamplingSpec, SourceSpec, WeightSpec
from tests.support.arrays import Numbers, ingest_numbers

HERE = Execution(workers=0)
TAKEN = [(8, 14), (2, 5), (15, 20)]


@pytest.fixture
def dagger(lake: Lake) -> Lake:
    made = []
    for n, (first, stop) in enumerate(TAKEN):
        action = np.random.default_rng(n).normal(size=(20, 2))
        flag = ((np.arange(20) >= first) & (np.arange(20) < stop)).astype(float)
        extra = {"is_intervention": flag[:, None], "policy_action": action - 1}
        made.append(Numbers(action * 0, action, success=True, extra=extra))
    ingest_numbers(lake, made)
    run_stage(AttemptsStage(lake, "dagger", "interventions", "all"), execution=HERE)
    return lake


def drawn_share(lake: Lake, name: str, weights: tuple[WeightSpec, ...]) -> tuple[float, int]:
    """Share of an epoch's items that lie inside an intervention, looked up by the episodes' own flags."""
    from catalog.tables import Catalog
    from pipelines.shards.reader import open_shard

    spec = MixtureSpec(
        name,
        samples=600,
        seed=1,
        sources=(SourceSpec("all"),),
        weights=weights,
        resampling=ResamplingSpec(0, 0),
        statistics=False,
    )
    mix(lake, spec)
    mixture = open_mixture(lake, name)
    (source,) = mixture.plan.sources
    rows, steps = mixture.index.find(source.name, "train", np.arange(source.items))
    episodes = {r["episode_id"]: r for r in Catalog(lake).latest("episodes").collect().iter_rows(named=True)}
    inside = 0
    for row, step in zip(rows.tolist(), steps.tolist(), strict=True):
        one = mixture.index.row(row)
        about = episodes[one.episode_id]
        table = open_shard(lake, about["dataset"], about["shard"]).episode_steps(one.episode_id)
        inside += table.column("is_intervention").to_pylist()[one.first_row - about["first_row"] + step] > 0.5
    return inside / source.items, source.items


def test_corrections_have_the_share_that_was_asked_for(dagger: Lake) -> None:
    made = weigh_corrections(dagger, "dagger", 0.6)
    assert made.inside == sum(b - a for a, b in TAKEN)
    assert made.natural == pytest.approx(made.inside / 60)
    share, items = drawn_share(dagger, "weighed", (WeightSpec(score=METHOD),))
    assert share == pytest.approx(0.6, abs=1 / items)
    plain, _ = drawn_share(dagger, "plain", ())
    assert plain == pytest.approx(made.natural), "the adversarial twin: without the weights"


def test_a_share_needs_something_to_share(dagger: Lake, tmp_path) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        weigh_corrections(dagger, "dagger", 1.0)
    path = tmp_path / "t.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}], "success": true}')
    assert run(["attempts", "add", str(path), "--as", "words", "--lake", dagger.root]) == 0
    with pytest.raises(UsageError, match="0 recorded steps are corrections"):
        weigh_corrections(dagger, "words", 0.5)
    assert run(["attempts", "weigh", "0.5", "--source", "dagger", "--lake", dagger.root]) == 0
