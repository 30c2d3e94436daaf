from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.language_motion import LanguageMotion
from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage, evaluate
from pipelines.annotations import motion_rows, read_annotations
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.unit import StageReport, run_stage
from schemas.errors import LakeError, UsageError
from schemas.ids import episode_id
from tests.support.motion import ArmSource
from tests.support.toys import ToySource

HERE = Execution(workers=0)


@pytest.fixture
def arms(lake: Lake) -> Lake:
    """A lake with five episodes of motion in three shards."""
    run_stage(IngestStage(lake, ArmSource(seeds=(0, 1, 2, 3, 4))), execution=HERE)
    return lake


def annotate(lake: Lake, what: str = "all", **settings: object) -> StageReport:
    return run_stage(AnnotateStage.named(lake, "language_motion", what, settings), execution=HERE)


def table(lake: Lake) -> pl.DataFrame:
    return Catalog(lake).latest("annotations").collect()


def files(lake: Lake) -> list[str]:
    return [f for f in lake.fs.find(lake.root) if "/annotations/" in f and "/catalog/" not in f]


def test_every_shard_is_annotated_once(arms: Lake) -> None:
    stage = AnnotateStage.named(arms, "language_motion")
    assert [u.episodes for u in stage.plan()] != []
    assert sum(u.episodes for u in stage.plan()) == 5
    first = annotate(arms)
    assert (first.count("done"), first.total("frames"), first.rejects) == (3, 5 * 81, ())
    before = {f: arms.fs.cat_file(f) for f in files(arms)}
    again = annotate(arms)
    assert (again.count("skipped"), again.worked) == (3, 0)
    assert {f: arms.fs.cat_file(f) for f in files(arms)} == before
    rows = table(arms)
    assert rows["episodes"].sum() == 5
    assert rows["rows"].sum() == first.total("rows")
    assert rows["coverage"].to_list() == pytest.approx([1 - 12 / 81] * 3)  # all but the last 0.6 s of each episode
    assert all(Catalog(arms).lake.fs.exists(arms.path(u)) for u in rows["uri"])
    assert '"v_on": 0.05' in rows["config"][0]


def test_only_what_changed_is_done_again(arms: Lake) -> None:
    annotate(arms)
    changed = annotate(arms, v_on=0.1)
    assert changed.count("done") == 3
    run_stage(IngestStage(arms, ArmSource(seeds=(7,), options=SourceOptions("other"))), execution=HERE)
    added = annotate(arms)
    assert (added.count("done"), added.count("skipped")) == (1, 3)


def test_a_narrow_selection_never_shrinks_a_side_table(arms: Lake) -> None:
    one = episode_id("arm", "0")
    assert annotate(arms, f"episode_id = '{one}'").count("done") == 1
    assert table(arms)["episodes"].to_list() == [2]  # its whole shard
    assert annotate(arms).count("done") == 2
    with pytest.raises(UsageError, match="chooses no episode"):
        annotate(arms, "nobody")


def test_reading_back_gives_each_episode_its_rows_of_the_newest_kind(arms: Lake) -> None:
    annotate(arms)
    episodes = select_episodes(Catalog(arms))
    rows = read_annotations(Catalog(arms), "language_motion", episodes)
    assert rows["episode_id"].unique(maintain_order=True).to_list() == episodes["episode_id"].to_list()
    assert rows.columns[:3] == ["dataset", "shard", "episode_id"]
    assert rows.filter(pl.col("valid"))["text"].null_count() == 0
    two = read_annotations(Catalog(arms), "language_motion", episodes[[0, 3]])
    assert two["episode_id"].unique().len() == 2
    assert two.equals(rows.filter(pl.col("episode_id").is_in(episodes["episode_id"][[0, 3]].implode())))
    coarse = LanguageMotion(LanguageMotionConfig(v_on=0.2))
    run_stage(AnnotateStage(arms, coarse), execution=HERE)
    assert set(read_annotations(Catalog(arms), "language_motion", episodes)["annotator_fp"]) == {coarse.fingerprint()}
    old = read_annotations(Catalog(arms), "language_motion", episodes, LanguageMotion().fingerprint())
    assert old.equals(rows)
    assert read_annotations(Catalog(arms), "gaze", episodes).is_empty()


def test_motions_become_language_rows_for_exporters(arms: Lake) -> None:
    episodes = select_episodes(Catalog(arms))
    assert motion_rows(Catalog(arms), episodes) == {}
    annotate(arms)
    found = motion_rows(Catalog(arms), episodes)
    assert list(found) == episodes["episode_id"].to_list()
    for rows in found.values():
        assert rows[0].start_ns == 0
        assert all(r.style == "motion" and r.text and r.camera is None for r in rows)
        starts = [r.start_ns for r in rows]
        assert starts == sorted(set(starts))
        assert all(a.text != b.text for a, b in pairwise(rows))


def test_data_without_motion_is_covered_by_nothing_and_exports_nothing(lake: Lake) -> None:
    source = replace(ToySource(), options=SourceOptions("toy", contract={"features": {"observation.state": {"unit": "px"}}}))
    run_stage(IngestStage(lake, source), execution=HERE)
    report = annotate(lake)
    assert report.count("done") == 2
    assert motion_rows(Catalog(lake), select_episodes(Catalog(lake))) == {}


def test_a_missing_side_table_is_told(arms: Lake) -> None:
    annotate(arms)
    arms.fs.rm_file(files(arms)[0])
    with pytest.raises(LakeError, match="is missing although the catalog names it"):
        read_annotations(Catalog(arms), "language_motion", select_episodes(Catalog(arms)))


@dataclass(frozen=True, slots=True)
class Breaks(LanguageMotion):
    """Loses an episode, invents a number, or falls over."""

    how: str = "loses"
    version: ClassVar[str] = "1-broken"

    def run(self, batch: Batch) -> pa.Table:
        rows = LanguageMotion.run(self, batch)
        if self.how == "falls":
            raise RuntimeError("out of luck")
        if self.how == "loses":
            return rows.filter(pa.compute.not_equal(rows.column("episode_id").cast(pa.string()), batch.episodes[0]))
        at = rows.schema.get_field_index("margin")
        return rows.set_column(at, rows.schema.field(at), pa.array([float("nan")] * rows.num_rows, pa.float32()))


@pytest.mark.parametrize(
    ("how", "error"), [("loses", "AnnotatorError"), ("invents", "AnnotatorError"), ("falls", "RuntimeError")]
)
def test_nothing_of_a_broken_annotator_is_committed(arms: Lake, how: str, error: str) -> None:
    report = run_stage(AnnotateStage(arms, Breaks(how=how)), execution=HERE, stop_rejects=1.0)
    assert {r.error for r in report.rejects} == {error}
    assert sum(r.episodes for r in report.rejects) == 5
    assert table(arms).is_empty()
    assert files(arms) == []
    told = Catalog(arms).latest("quarantine").collect()
    assert set(told["stage"]) == {"annotate"}
    if how == "loses":
        assert all("lost 1 of" in m for m in told["message"])
        assert all(u.endswith(".steps.arrow") for u in told["uri"])
    assert annotate(arms).count("done") == 3  # its repair has another version, so nothing stands in its way


def test_quality_is_measured_per_dataset(arms: Lake) -> None:
    run_stage(IngestStage(arms, ArmSource(seeds=(8, 9, 10, 11), hz=10, options=SourceOptions("slow"))), execution=HERE)
    reports = evaluate(arms, LanguageMotion(), max_episodes=3)
    assert list(reports) == ["arm", "slow"]
    assert {r.metric: r.n_episodes for r in reports["arm"]}["rate_invariance"] == 3
    assert {r.metric: r.gate for r in reports["slow"]}["rate_invariance"] == "pass"
