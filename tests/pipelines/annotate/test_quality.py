"""Quality reports in the catalog: once per data and fingerprint, by dataset, with splits by hash, and no verdict on nothing."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

import pipelines.annotate.quality as quality
from annotators.base import Batch, episodes_id
from annotators.evaluation import QualityReport, not_measurable
from annotators.pictures.picture_quality import PictureQuality, PictureQualityConfig
from catalog.lake import Lake
from catalog.query import Query, select_episodes
from catalog.tables import Catalog
from pipelines import api
from pipelines.annotate import EvaluateStage, evaluate
from pipelines.annotate.quality import settled, stored_reports
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.reader import open_shard
from pipelines.sources.base import SourceOptions
from pipelines.unit import run_stage
from tests.support.toys import ToySource, ingest_toy
from tests.support.watchers import Numbers

HERE = Execution(workers=0)
REPORT = QualityReport("m", 0.5, (0.4, 0.6), 3, 30, "all", {"chance": 0.1}, "pass", "labels", "above chance", {"k": 1})


@dataclass(frozen=True)
class Judged(Numbers):
    """Reports what it was given, once for everything and once for the half it may not tune on."""

    tuned: ClassVar[bool] = True

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        test = heldout.part("test")
        clips = sum(len(c) for c in test.clips[self.camera])
        return (
            replace(REPORT, metric="pictures", value=float(clips), n_episodes=len(test.episodes), n_rows=test.steps.num_rows),
        )


def table(lake: Lake) -> Any:
    return Query(Catalog(lake)).sql("SELECT * FROM quality")


def test_reports_are_kept_once_per_data_and_fingerprint(lake: Lake) -> None:
    ingest_toy(lake, ToySource(lengths=(12, 12, 12)))
    annotator = PictureQuality(PictureQualityConfig(side=32))
    stage = EvaluateStage(lake, annotator)
    assert run_stage(stage, execution=HERE).count("done") == 1
    rows = table(lake)
    assert rows["metric"].to_list() == ["blur_auc", "freeze_auc"]
    assert rows["rows"].to_list() == [72, 72]
    assert rows["split_id"][0] == episodes_id(tuple(select_episodes(Catalog(lake))["episode_id"]))
    assert set(rows["split_by"]) == {"episode"}
    assert run_stage(stage, execution=HERE).count("skipped") == 1
    other = replace(annotator, config=PictureQualityConfig(side=48))
    assert run_stage(EvaluateStage(lake, other), execution=HERE).count("done") == 1
    assert table(lake).height == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PictureQuality, "evaluation", "another")
        assert run_stage(stage, execution=HERE).count("done") == 1
    assert stored_reports(lake, annotator, ["toy"]) == {"toy": evaluate(lake, annotator)["toy"]}
    assert stored_reports(lake, annotator, ["nobody"]) == {}
    ingest_toy(lake, replace(ToySource(lengths=(12, 13, 14, 15)), options=SourceOptions("second")))
    assert api.evaluate("picture_quality", lake, what="second", side=32)["second"][0].n_episodes == 4
    assert run_stage(stage, execution=HERE).count("skipped") == 2
    assert Catalog(lake).scan("quality").collect().height == 8


def test_what_is_tuned_is_judged_on_the_half_it_never_saw(lake: Lake) -> None:
    source = ToySource(lengths=(5,) * 10)
    run_stage(IngestStage(lake, source), execution=HERE)
    run_stage(EvaluateStage(lake, Judged()), execution=HERE)  # type: ignore[arg-type]
    (row,) = table(lake).iter_rows(named=True)
    assert row["split"] == "test"
    assert 0 < row["episodes"] < 10
    assert row["value"] == row["rows"] == 5 * row["episodes"]
    assert row["baselines"] == '{"chance": 0.1}'
    few = EvaluateStage(lake, Judged(), max_episodes=4)  # type: ignore[arg-type]
    (unit,) = few.plan()
    assert len(unit.payload) == 4
    assert {len(few.batch(unit).part(p).episodes) for p in ("val", "test")} == {2}


def test_episodes_whose_pictures_do_not_fit_are_thinned_evenly(lake: Lake) -> None:
    run_stage(IngestStage(lake, ToySource(lengths=(5,) * 10)), execution=HERE)
    (unit,) = EvaluateStage(lake, Numbers()).plan()  # type: ignore[arg-type]
    rows = [(open_shard(lake, "toy", s), e) for e, s, _ in unit.payload]
    needs = Numbers().needs(rows[0][0].contract)
    each = 5 * 64 * 64 * 3
    assert quality._fitting(rows, needs, 10 * each) == list(range(10))
    assert quality._fitting(rows, needs, 3 * each) == [0, 4, 9]
    assert quality._fitting(rows, needs, 1) == [0]


def test_scenes_are_never_split(lake: Lake) -> None:
    run_stage(IngestStage(lake, ToySource(lengths=(5,) * 6)), execution=HERE)
    stage = EvaluateStage(lake, Judged())  # type: ignore[arg-type]
    (unit,) = stage.plan()
    scenes = [[e, s, f"scene {n % 2}"] for n, (e, s, _) in enumerate(unit.payload)]
    batch = stage.batch(replace(unit, payload=scenes))
    assert set(batch.groups) == {"scene 0", "scene 1"}
    for part in ("val", "test"):
        found = set(batch.part(part).groups)
        assert all(batch.groups.count(g) == batch.part(part).groups.count(g) for g in found)


def test_there_is_no_verdict_where_nothing_was_measured() -> None:
    assert settled(REPORT) == REPORT
    assert settled(REPORT, "test").split == "test"
    assert settled(replace(REPORT, split="5 folds"), "test").split == "5 folds"
    for empty in (replace(REPORT, n_rows=0), replace(REPORT, value=float("nan")), replace(REPORT, value=None)):
        found = settled(empty)
        assert (found.gate, found.value, found.ci95, found.baselines) == ("not-measurable", None, None, {})
        assert "nothing to measure in 3 episodes" in found.gt_source
    assert settled(replace(REPORT, baselines={"a": 1.0, "b": float("nan")})).baselines == {"a": 1.0}
    told = not_measurable("m", "no labels")
    assert settled(told) == told


def test_an_evaluation_that_falls_over_is_tried_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest_toy(lake)

    def falls(self: Any, heldout: Batch) -> Any:
        raise ZeroDivisionError(len(heldout.episodes))

    with monkeypatch.context() as patch:
        patch.setattr(Numbers, "evaluate", falls)
        report = run_stage(EvaluateStage(lake, Numbers()), execution=HERE)  # type: ignore[arg-type]
        assert [r.error for r in report.rejects] == ["ZeroDivisionError"]
    assert table(lake).is_empty()
    assert run_stage(EvaluateStage(lake, Numbers()), execution=HERE).count("done") == 1  # type: ignore[arg-type]
    assert table(lake)["gate"].to_list() == ["not-measurable"]
    assert np.isnan(table(lake)["value"].to_numpy().astype(float)).all()
