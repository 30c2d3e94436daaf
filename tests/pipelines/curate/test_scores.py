import json
from pathlib import Path

import polars as pl
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotations import read_annotations
from pipelines.cli.app import run as command
from pipelines.curate.outside import ImportStage
from pipelines.curate.pooled import PooledScoreStage
from pipelines.curate.scores import ScoreStage, check_methods
from pipelines.unit import StageReport, run_stage
from schemas.errors import LakeError, MalformedSourceError, MissingFileError, UnknownNameError
from tests.support.curated import HERE, Take, ingest_takes
from tests.support.toys import ingest_toy
from transforms.curation.metrics import METRICS

NUMBERS = ("idle", "sparc", "ldlj", "envelope", "jitter", "gaps", "tracking", "consistency", "progress")


def score(lake: Lake, *methods: str, what: str = "all") -> list[StageReport]:
    wanted = check_methods(methods)
    return [run_stage(stage, execution=HERE) for stage in (ScoreStage(lake, what, wanted), PooledScoreStage(lake, what, wanted))]


def scores(lake: Lake) -> pl.DataFrame:
    return Catalog(lake).latest("scores").collect()


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake.at(tmp_path_factory.mktemp("scored") / "lake")
    return ingest_takes(lake, [Take(i, scene=f"s{i % 5}", shake=0.01 if i >= 12 else 0.0) for i in range(16)])


def test_scores_are_stored_once_and_never_applied(takes: Lake) -> None:
    first = score(takes, *NUMBERS)
    assert [r.count("done") for r in first] == [2, 1]
    assert sum(r.worked for r in score(takes, *NUMBERS)) == 0
    table = scores(takes)
    assert table.height == 16 * len(NUMBERS)
    assert set(table["method"]) == {f"quality.{m}" for m in NUMBERS}
    assert Catalog(takes).latest("episodes").collect().height == 16
    assert Catalog(takes).latest("decisions").collect().is_empty()


def test_shaking_episodes_score_worse(takes: Lake) -> None:
    score(takes, *NUMBERS)
    key = Catalog(takes).latest("episodes").select("episode_id", "key").collect()
    table = scores(takes).join(key, on="episode_id")
    for name in ("sparc", "ldlj", "envelope"):
        rows = table.filter(pl.col("method") == f"quality.{name}").sort("key")
        sign = 1 if METRICS[name].better == "more" else -1
        values = sign * rows["value"].to_numpy()
        assert values[:12].min() > values[12:].max(), name
        assert {"tail", "movements"} <= json.loads(rows["detail"][0]).keys()


def test_only_what_changed_is_scored_again(takes: Lake) -> None:
    score(takes, *NUMBERS)
    ingest_takes(takes, [Take(i) for i in range(40, 48)], "others")
    assert [r.count("done") for r in score(takes, *NUMBERS)] == [1, 1]


def test_an_unmeasurable_score_says_why(lake: Lake) -> None:
    ingest_takes(lake, [Take(1, hz=10.0)])
    score(lake)
    table = scores(lake)
    assert table.height == len(METRICS)
    why = {
        m.removeprefix("quality."): json.loads(d)["why"]
        for m, d in table.filter(pl.col("value").is_null()).select("method", "detail").rows()
    }
    assert "needs 20 Hz" in why["sparc"]
    assert why["success"] == "no success label"
    assert why["sharpness"] == "no pictures to measure"
    assert "absolute" not in why["saturation"]
    assert {"blur", "consistency", "progress"} & why.keys() == {"blur", "progress"}


def test_pictures_are_scored(lake: Lake) -> None:
    ingest_toy(lake)
    score(lake, "blur", "exposure", "freeze", "motion_vision", "drift")
    table = scores(lake)
    assert set(table["method"]) == {f"quality.{m}" for m in ("blur", "sharpness", "exposure", "freeze", "motion_vision", "drift")}
    blur = table.filter(pl.col("method") == "quality.blur")["value"].to_numpy()
    assert ((blur > 0) & (blur < 1.5)).all()


def test_pooled_scores_wait_for_what_they_rest_on(lake: Lake) -> None:
    ingest_takes(lake, [Take(1)])
    with pytest.raises(LakeError, match="no sharpness yet"):
        run_stage(PooledScoreStage(lake, methods=("blur", "sharpness")), execution=HERE)
    with pytest.raises(UnknownNameError, match="did you mean sparc"):
        check_methods(["spark"])


def table_of(path: Path, **columns) -> str:
    pl.DataFrame(columns).write_parquet(path / "scores.parquet")
    return str(path / "scores.parquet")


def test_outside_scores_are_checked_and_stored_beside_ours(lake: Lake, tmp_path: Path) -> None:
    ingest_takes(lake, [Take(i) for i in range(3)])
    table = table_of(
        tmp_path, dataset=["takes"] * 5, key=["0000", "0001", "0002", "0009", "0002"], value=[0.5, 0.25, float("nan"), 1.0, 2.0],
        se=[0.1, None, 0.1, 0.1, -1.0], start_ns=[None, None, None, None, 1_000],
    )  # fmt: skip
    report = run_stage(ImportStage(lake, table, "cupid", "policy-7"), execution=HERE, stop_rejects=1)
    assert [r.message.rsplit(")", 1)[-1].strip() for r in report.rejects] == [
        "names no episode of this lake", "has no finite value", "has a standard error that is none",
    ]  # fmt: skip
    rows = scores(lake)
    assert rows.select("method", "fingerprint", "value", "se").rows() == [
        ("cupid", "policy-7", 0.5, 0.1),
        ("cupid", "policy-7", 0.25, None),
    ] or set(rows["value"]) == {0.5, 0.25}
    assert rows["end_ns"].null_count() == 0
    assert run_stage(ImportStage(lake, table, "cupid", "policy-7"), execution=HERE).worked == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"episode_id": ["x"]}, "no column 'value'"),
        ({"value": [1.0]}, "names no episodes"),
        ({"episode_id": ["x"], "value": ["high"]}, "wrong type"),
    ],
)
def test_a_table_that_says_too_little_is_told(lake: Lake, tmp_path: Path, columns: dict, message: str) -> None:
    ingest_takes(lake, [Take(1)])
    stage = ImportStage(lake, table_of(tmp_path, **columns), "m", "f")
    with pytest.raises(MalformedSourceError, match=message):
        stage.work(stage.plan()[0])


def test_our_own_methods_cannot_be_imported(lake: Lake, tmp_path: Path) -> None:
    table = table_of(tmp_path, episode_id=["x"], value=[1.0])
    for method, message in (("quality.sparc", "one of cotrain's own"), ("", "no column 'method'")):
        stage = ImportStage(lake, table, method, "f")
        with pytest.raises(MalformedSourceError, match=message):
            stage.work(stage.plan()[0])
    with pytest.raises(MissingFileError):
        ImportStage(lake, str(tmp_path / "absent.parquet"), "m", "f").plan()


def test_the_command_scores_and_imports(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest_takes(lake, [Take(i) for i in range(2)])
    assert command(["curate", "score", "takes", "--methods", "ldlj,jitter", "--lake", lake.root, "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["rows"] == 4
    table = table_of(tmp_path, dataset=["takes"], key=["0000"], value=[1.0])
    assert command(["curate", "import", table, "--method", "taste", "--fingerprint", "me", "--lake", lake.root]) == 0
    assert command(["curate", "--lake", lake.root]) == 2
    assert "give --spec" in capsys.readouterr().err


def test_the_segments_annotator_says_where_movements_are(lake: Lake) -> None:
    ingest_takes(lake, [Take(i) for i in range(2)])
    score(lake, "ldlj")
    run_stage(AnnotateStage.named(lake, "segments"), execution=HERE)
    assert score(lake, "ldlj")[0].worked == 1  # scored again, by the annotator's segments
    rows = scores(lake)
    segments = read_annotations(Catalog(lake), "segments", Catalog(lake).latest("episodes").collect()).filter("valid")
    for episode, detail in rows.select("episode_id", "detail").iter_rows():
        starts = {m[0] for m in json.loads(detail)["movements"]}
        told = segments.filter(pl.col("episode_id") == episode)["start_ns"].to_list()
        assert starts
        assert all(min(abs(s - t) for t in told) <= 20_000_000 for s in starts)
