import json
from pathlib import Path

import polars as pl
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import language_rows
from pipelines.cli.app import run as command
from pipelines.curate.decide import decide
from pipelines.curate.duplicates import DuplicateStage
from pipelines.curate.sketches import SketchStage
from pipelines.ingest import IngestStage
from pipelines.selection import choose
from pipelines.sources.base import SourceOptions
from pipelines.sources.registry import open_source
from pipelines.unit import StageReport, run_stage
from schemas.curation import KINDS, CurationSpec, DuplicateKind, DuplicateSpec, GateSpec
from schemas.errors import LakeError, UsageError
from tests.support.curated import HERE, Take, ingest_takes
from tests.support.toys import ToySource, ingest_toy


def find(lake: Lake, *wanted: DuplicateKind) -> list[StageReport]:
    kinds = wanted or KINDS
    return [run_stage(stage(lake, "all", kinds), execution=HERE) for stage in (SketchStage, DuplicateStage)]


def pairs(lake: Lake, kind: str | None = None) -> pl.DataFrame:
    key = (
        Catalog(lake)
        .latest("episodes")
        .select("episode_id", pl.concat_str("dataset", "key", separator="/").alias("key"))
        .collect()
    )
    rows = Catalog(lake).latest("duplicates").collect()
    rows = rows if kind is None else rows.filter(pl.col("kind") == kind)
    rows = rows.join(key, on="episode_id").join(key.rename({"episode_id": "other_id", "key": "other"}), on="other_id")
    both = pl.concat_list("key", "other").list.sort()
    return rows.with_columns(both.list.first().alias("a"), both.list.last().alias("b")).sort("a", "b")


@pytest.fixture
def copied(lake: Lake) -> Lake:
    """`takes` 0..9, and in `again` three of them, as recorded at half the rate, with more noise and with the start missing; and one new."""
    ingest_takes(lake, [Take(i, split="train") for i in range(10)])
    ingest_takes(lake, [Take(2, hz=25.0, split="val"), Take(5, noise=0.003), Take(7, trim=0.05), Take(50)], "again")
    return lake


def test_copies_are_found_across_datasets_and_splits(copied: Lake) -> None:
    assert [r.total("rows") for r in find(copied, "trajectory", "exact")] == [14, 3]
    rows = pairs(copied)
    assert rows.select("kind", "a", "b").rows() == [
        ("trajectory", "again/0000", "takes/0002"), ("trajectory", "again/0001", "takes/0005"), ("trajectory", "again/0002", "takes/0007"),
    ]  # fmt: skip
    assert rows["similarity"].min() >= 0.6
    details = [json.loads(d) for d in rows["detail"]]
    assert all(d["across_datasets"] for d in details)
    assert [d["across_splits"] for d in details] == [True, False, False]
    assert [r.worked for r in find(copied, "trajectory", "exact")] == [0, 0]


def test_other_motions_of_one_task_are_no_copies(lake: Lake) -> None:
    ingest_takes(lake, [Take(i) for i in range(30)])
    assert find(lake, "trajectory")[1].total("rows") == 0


def test_equal_content_is_exact_and_the_stronger_evidence_is_told(lake: Lake) -> None:
    ingest_toy(lake, ToySource(options=SourceOptions("toy_a")))
    ingest_toy(lake, ToySource(options=SourceOptions("toy_b")))
    find(lake, "exact", "visual")
    assert pairs(lake, "exact").select("a", "b").rows() == [(f"toy_a/{i}", f"toy_b/{i}") for i in range(4)]
    verdicts = decide(lake, CurationSpec("c", duplicates=DuplicateSpec(("exact", "visual"))))
    dropped = verdicts.rows.filter(~pl.col("keep"))
    assert set(dropped["dataset"]) == {"toy_b"}
    assert all(r.endswith("(exact, 1.00)") for r in dropped["reason"])
    assert not verdicts.coverage.violations  # what a copy shows is still there


def test_the_best_copy_stays_whatever_order_pairs_come_in(copied: Lake) -> None:
    find(copied, "trajectory")
    first = decide(copied, CurationSpec("c", duplicates=DuplicateSpec(("trajectory",))))
    assert first.rows.filter(~pl.col("keep"))["dataset"].to_list() == ["takes"] * 3  # `again` comes first by name
    from pipelines.curate.scores import ScoreStage

    run_stage(ScoreStage(copied, methods=("ldlj",)), execution=HERE)
    best = decide(copied, CurationSpec("c", duplicates=DuplicateSpec(("trajectory",), keep="ldlj")))
    dropped = best.rows.filter(~pl.col("keep"))
    noisy = pairs(copied).filter(pl.col("a") == "again/0001").select("episode_id", "other_id").row(0)
    gone = next(e for e in dropped["episode_id"] if e in noisy)
    assert Catalog(copied).latest("episodes").filter(pl.col("episode_id") == gone).collect()["dataset"][0] == "again"
    both = decide(copied, CurationSpec("c", gates=(GateSpec(sql="key = '0002'"),), duplicates=DuplicateSpec(("trajectory",))))
    assert both.rows["detail"].drop_nulls().len() == 1  # an episode that two gates reject says so


def test_a_changed_episode_is_no_copy_any_more(lake: Lake) -> None:
    ingest_takes(lake, [Take(1), Take(1)])
    find(lake, "trajectory")
    spec = CurationSpec("c", duplicates=DuplicateSpec(("trajectory",)))
    assert decide(lake, spec).rows["keep"].sum() == 1
    ingest_takes(lake, [Take(1), Take(9)])
    assert decide(lake, spec).rows["keep"].sum() == 2


def test_sketches_come_first_and_are_no_text(copied: Lake) -> None:
    with pytest.raises(LakeError, match="shards are not sketched"):
        run_stage(DuplicateStage(copied, kinds=("trajectory",)), execution=HERE)
    find(copied, "trajectory")
    assert language_rows(Catalog(copied), choose(copied, "all").episodes) == {}
    with pytest.raises(UsageError, match="is no kind of duplicate"):
        SketchStage(copied, kinds=("similar",))  # pyright: ignore[reportArgumentType]


def test_the_command_counts_what_crosses_a_border(copied: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["curate", "duplicates", "--kinds", "trajectory", "--lake", copied.root, "--workers", "0", "--json"]
    assert command(arguments) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == [
        {"kind": "trajectory", "pairs": 3, "across_datasets": 3, "across_splits": 1}
    ]


def test_every_duplicated_episode_of_bridge_is_found(data: Path, lake: Lake) -> None:
    """Its validation episodes are its training episodes in another order."""
    source = open_source(str(data / "rlds" / "bridge_dataset"), SourceOptions("bridge"), "auto")
    run_stage(IngestStage(lake, source), execution=HERE)
    find(lake)
    for kind in ("exact", "visual"):
        rows = pairs(lake, kind)
        assert rows.height == 25, kind
        assert all(json.loads(d)["across_splits"] for d in rows["detail"])
        assert rows["a"].str.contains("/train/").all()
        assert rows["b"].str.contains("/val/").all()
    moving = pairs(lake, "trajectory")  # the others hardly move in their ten steps
    assert 0 < moving.height < 25
    assert set(moving.select("a", "b").rows()) <= set(pairs(lake, "exact").select("a", "b").rows())
    verdicts = decide(lake, CurationSpec("b", duplicates=DuplicateSpec()))
    assert verdicts.rows["keep"].sum() == 25
    assert not verdicts.coverage.violations
