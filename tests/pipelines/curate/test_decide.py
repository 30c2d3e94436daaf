import json
from pathlib import Path

import polars as pl
import pytest

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.cli.app import run as command
from pipelines.curate.decide import DecideStage, condition, decide
from pipelines.curate.scores import ScoreStage
from pipelines.mixture.compile import compile_mixture
from pipelines.unit import StageReport, run_stage
from schemas.curation import CoverageSpec, CurationSpec, GateSpec, load_curation
from schemas.errors import CoverageError, UsageError
from schemas.mixture import MixtureSpec, SourceSpec
from tests.support.curated import HERE, Take, ingest_takes

KEPT = "SELECT episode_id FROM decisions WHERE curation = 'clean' AND keep"


@pytest.fixture
def takes(lake: Lake) -> Lake:
    """Two tasks of ten; three of each shake, and one of `stack` failed."""
    rows = [Take(i, "stack", scene=f"s{i % 2}", shake=0.01 * (i >= 7), success=i != 0) for i in range(10)]
    rows += [Take(20 + i, "pour", scene=f"s{i % 2}", shake=0.01 * (i >= 7), success=True) for i in range(10)]
    ingest_takes(lake, rows)
    run_stage(ScoreStage(lake, methods=("ldlj", "sparc", "success")), execution=HERE)
    return lake


def run(lake: Lake, spec: CurationSpec) -> StageReport:
    return run_stage(DecideStage(lake, spec), execution=HERE)


def decisions(lake: Lake) -> pl.DataFrame:
    key = Catalog(lake).latest("episodes").select("episode_id", "key").collect()
    return Catalog(lake).latest("decisions").collect().join(key, on="episode_id", how="left").sort("key")


def clean(*gates: GateSpec, **changes) -> CurationSpec:
    return CurationSpec("clean", gates=gates or (GateSpec("ldlj", worst=0.3, reason="shakes"),), **changes)


def test_every_rejected_episode_has_its_gate_reason_and_value(takes: Lake) -> None:
    failed = GateSpec(sql="success_1 = 0 OR NOT success", reason="failed")
    with pytest.raises(UsageError, match="a gate's condition failed"):
        decide(takes, clean(failed))
    report = run(takes, clean(GateSpec(sql="NOT success", reason="failed"), GateSpec("ldlj", worst=0.3, reason="shakes")))
    assert report.total("rows") == 20
    rows = decisions(takes)
    rejected = rows.filter(~pl.col("keep"))
    assert rejected["key"].to_list() == ["0000", "0007", "0008", "0009", "0017", "0018", "0019"]
    assert rejected["reason"][0] == "failed"
    assert all(r.startswith("shakes (ldlj = -") for r in rejected["reason"][1:])
    assert rows.filter("keep")["reason"].null_count() == 13
    assert set(rows["spec_hash"]) == {
        clean(GateSpec(sql="NOT success", reason="failed"), GateSpec("ldlj", worst=0.3, reason="shakes")).hash
    }


def test_a_mixture_can_name_a_curation(takes: Lake) -> None:
    run(takes, clean())
    assert select_episodes(Catalog(takes), KEPT).height == 14
    mixture = compile_mixture(takes, MixtureSpec("good", 100, (SourceSpec("clean", KEPT),), statistics=False))
    assert mixture.shares[0].episodes == 14
    assert mixture.pins["decisions"] is not None


def test_the_same_decision_is_made_once_and_a_detour_is_undone(takes: Lake) -> None:
    assert run(takes, clean()).worked == 1
    assert run(takes, clean()).worked == 0
    loose = clean(GateSpec("ldlj", worst=0.1))
    assert run(takes, loose).worked == 1
    assert select_episodes(Catalog(takes), KEPT).height == 18
    assert run(takes, clean()).worked == 1
    assert select_episodes(Catalog(takes), KEPT).height == 14
    assert run(takes, clean()).worked == 0


def test_what_is_no_longer_chosen_is_no_longer_kept(takes: Lake) -> None:
    run(takes, clean())
    run(takes, clean(where="task = 'pour'"))
    assert select_episodes(Catalog(takes), KEPT)["task"].unique().to_list() == ["pour"]
    assert decisions(takes).filter(pl.col("gate") == "selection").height == 7


def test_robust_z_is_within_a_task_and_missing_values_are_a_choice(takes: Lake) -> None:
    verdicts = decide(takes, clean(GateSpec("ldlj", z_below=-2.0)))
    assert verdicts.rows.filter(~pl.col("keep")).height >= 4
    assert "ldlj_z < -2.0" in verdicts.sql
    ingest_takes(takes, [Take(99, hz=10.0)], "slow")
    run_stage(ScoreStage(takes, methods=("sparc",)), execution=HERE)
    kept = decide(takes, clean(GateSpec("sparc", below=-1000)))
    assert kept.rows["keep"].all()
    dropped = decide(takes, clean(GateSpec("sparc", below=-1000, missing="reject")))
    assert dropped.rows.filter(~pl.col("keep"))["dataset"].to_list() == ["slow"]


def test_losing_a_task_fails_loudly_and_writes_nothing(takes: Lake) -> None:
    greedy = clean(GateSpec(sql="task = 'pour' AND key > '0012'", reason="no reason"))
    with pytest.raises(CoverageError, match="task 'pour' keeps 3 of 10 episodes, less than 50%"):
        run(takes, greedy)
    assert decisions(takes).is_empty()
    allowed = clean(*greedy.gates, coverage=CoverageSpec(retention=0.2, entropy_drop=1.0))
    assert run(takes, allowed).worked == 1
    lopsided = clean(*greedy.gates, coverage=CoverageSpec(retention=0.2, entropy_drop=0.01))
    with pytest.raises(CoverageError, match="the entropy of task falls"):
        run(takes, lopsided)
    with pytest.raises(CoverageError, match="nothing is kept"):
        run(takes, clean(GateSpec(sql="TRUE"), coverage=CoverageSpec(0, 9)))


def test_scores_and_columns_that_are_not_there_are_told(takes: Lake) -> None:
    with pytest.raises(UsageError, match=r"run `cotrain curate score --methods blur`"):
        decide(takes, clean(GateSpec("blur", below=0.3)))
    with pytest.raises(UsageError, match="did you mean ldlj"):
        decide(takes, clean(GateSpec("ldjl", below=0.3)))
    with pytest.raises(UsageError, match="fingerprint fp-0"):
        decide(takes, clean(GateSpec("ldlj", below=0.3, fingerprint="fp-0")))
    with pytest.raises(UsageError, match=r"coverage\.by names"):
        decide(takes, clean(coverage=CoverageSpec(by=("operator",))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("where = 'all'\n", "name is missing"),
        ("name = 'a'\n", "the curation has no gate"),
        ("name = 'A b'\n[duplicates]\n", "use lower-case"),
        ("name = 'a'\n[[gates]]\nscore = 'x'\n", "give a score and one of below"),
        ("name = 'a'\n[[gates]]\nsql = 'x'\nbelow = 1\n", "sql says it all"),
        ("name = 'a'\n[[gates]]\nscore = 'x'\nbellow = 1\n", "did you mean below"),
        ("name = 'a'\n[[gates]]\nscore = 'x'\nworst = 1.5\n", "a share between 0 and 1"),
        ("name = 'a'\n[gates]\nscore = 'x'\n", "two brackets"),
        ("name = 'a'\n[duplicates]\nkinds = ['same']\n", "must be one of 'exact'"),
        ("name = 'a'\n[duplicates]\n[coverage]\nretention = 2\n", "coverage.retention is 2"),
        ("name = \n", "is not valid TOML"),
    ],
)
def test_a_spec_that_makes_no_sense_is_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_curation(text)


def test_conditions_read_as_written() -> None:
    assert condition(GateSpec("sparc", below=-1.6, above=0)) == "sparc < -1.6 OR sparc > 0"
    assert condition(GateSpec("lint.flags", above=1, missing="reject")) == "lint_flags > 1 OR lint_flags IS NULL"


def test_the_command_decides_prints_and_guards(takes: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "clean.toml"
    spec.write_text("name = 'clean'\n[[gates]]\nscore = 'ldlj'\nworst = 0.3\nreason = 'shakes'\n")
    assert command(["curate", "--spec", str(spec), "--lake", takes.root, "--dry-run"]) == 0
    assert decisions(takes).is_empty()
    assert command(["curate", "--spec", str(spec), "--lake", takes.root]) == 0
    assert "14 of 20 episodes kept" in capsys.readouterr().out
    assert command(["curate", "--spec", str(spec), "--lake", takes.root, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kept"], document["rejected_by"], document["fresh"]) == (14, {"ldlj": 6}, False)
    assert {g["group"]: g["kept"] for g in document["retention"] if g["by"] == "task"} == {"stack": 7, "pour": 7}
    spec.write_text(spec.read_text().replace("0.3", "0.7"))
    assert command(["curate", "--spec", str(spec), "--lake", takes.root]) == 2
    assert "loses too much" in capsys.readouterr().err


def test_from_python(takes: Lake) -> None:
    import cotrain

    cotrain.score("takes", takes, methods=("jitter",))
    verdicts = cotrain.curate("name = 'steady'\n[[gates]]\nscore = 'jitter'\nabove = 0.1\n", takes)
    assert verdicts.rows["keep"].all()
    assert cotrain.query("SELECT count(*) AS n FROM decisions WHERE curation = 'steady' AND keep", takes).item() == 20


def test_a_score_called_like_a_column_of_episodes_has_a_column_of_its_own(takes: Lake) -> None:
    by_score = decide(takes, clean(GateSpec("success", below=1)))
    assert "success_score < 1" in by_score.sql
    by_label = decide(takes, clean(GateSpec(sql="NOT success")))
    both = [v.rows.filter(~pl.col("keep"))["episode_id"].to_list() for v in (by_score, by_label)]
    assert both[0] == both[1]
    assert len(both[0]) == 1
