"""Injected defects and how scores are judged by them; the adversarial twin is a score that only knows length."""

import json
from pathlib import Path

import numpy as np
import pytest

from catalog.lake import Lake
from pipelines.cli.app import run as command
from pipelines.curate.defects import Case, inject, judge_scores, ledger
from pipelines.curate.evaluation import judge, partial_spearman, strata
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.sources.registry import open_source
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.curated import HERE, Take, ingest_takes
from tests.support.toys import ingest_toy
from transforms.columns import feature_array
from transforms.curation.defects import DEFECTS

NUMBERS = ("noise", "tremor", "truncation", "dropped_steps", "early_release", "skipped", "wrong_object", "other_instruction")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    lake = Lake.at(tmp_path_factory.mktemp("spoilt") / "lake")
    ingest_takes(lake, [Take(i, "pour the water into the cup") for i in range(12)])
    return inject(lake, "takes", NUMBERS, video_hz=None)


def arrays(case: Case) -> tuple[np.ndarray, np.ndarray]:
    it = case.subject.evidence
    return tuple(feature_array(it.steps, f) for f in it.contract.features)  # pyright: ignore[reportReturnType]


def test_the_ledger_says_what_was_done_and_to_what(cases: list[Case]) -> None:
    told = ledger(cases)
    assert dict(told.group_by("kind").len().iter_rows()) == dict.fromkeys(NUMBERS, 12)
    assert {k: DEFECTS[k][0] for k in NUMBERS} == dict(told.select("kind", "family").unique().iter_rows())
    good = {c.recording: c for c in cases if c.defect is None}
    for case in (c for c in cases if c.defect is not None):
        state, action = arrays(case)
        before, asked = arrays(good[case.recording])
        kind = case.defect.kind
        if kind in ("noise", "tremor"):
            change = np.abs(state - before)[:, :3].max(0) / np.ptp(before[:, :3], axis=0)
            assert (change > 0.005).all()
            assert (change < 0.06).all()
            assert (state[:, 3] == before[:, 3]).all()
        elif kind == "truncation":
            assert 0.6 <= len(state) / len(before) <= 0.81
            assert (state == before[: len(state)]).all()
        elif kind == "dropped_steps":
            assert len(state) == len(before) - len(before) // 10
        elif kind == "early_release":
            assert (state[:, :3] == before[:, :3]).all()
            assert (
                state[case.defect.start : case.defect.stop, 3].min() == action[case.defect.start : case.defect.stop, 3].min() == 1
            )
        elif kind in ("skipped", "wrong_object"):
            inside = slice(case.defect.start, case.defect.stop)
            assert (np.delete(state, inside, 0) == np.delete(before, inside, 0)).all()
            assert np.abs(state[inside] - before[inside]).max() > 0.05
        else:
            assert case.subject.evidence.steps.column("language")[0].as_py() == "cup the into water the pour"
            assert (state == before).all() and (action == asked).all()  # noqa: PT018


def test_defects_are_a_function_of_episode_kind_and_seed(cases: list[Case], tmp_path: Path) -> None:
    lake = ingest_takes(Lake.at(tmp_path / "lake"), [Take(i, "pour the water into the cup") for i in range(2)])
    again = inject(lake, "takes", ("noise", "skipped"), video_hz=None)
    first = {(c.recording, c.defect.kind): arrays(c)[0] for c in cases if c.defect is not None}
    for case in again:
        if case.defect is not None and case.defect.kind == "noise":
            assert (arrays(case)[0] == first[case.recording, "noise"]).all()
    with pytest.raises(UsageError, match="there is no defect 'rust'"):
        inject(lake, "takes", ("rust",))


def test_scores_see_what_they_should_and_are_said_to_miss_the_rest(cases: list[Case]) -> None:
    seen = {(j.method, j.kind): j.seen for j in judge_scores(cases, ("sparc", "ldlj", "envelope", "gaps", "idle"))}
    for method in ("sparc", "ldlj", "envelope"):
        assert seen[method, "tremor"].gate == seen[method, "noise"].gate == "pass"
        assert seen[method, "tremor"].matched > 0.95
    assert seen["gaps", "dropped_steps"].matched == 1.0
    for method in ("sparc", "ldlj", "envelope", "gaps", "idle"):
        assert seen[method, "other_instruction"].gate == "fail"
        assert seen[method, "other_instruction"].matched == 0.5
    assert seen["sparc", "early_release"].gate != "pass"
    base = seen["sparc", "noise"].baselines
    assert base["oracle"] == 1.0
    assert base["random"] == pytest.approx(0.5, abs=0.05)
    assert base["random_97.5"] < seen["sparc", "noise"].matched
    assert abs(base["longest"] + base["shortest"] - 1) < 1e-9


def test_a_score_that_only_knows_length_fails_although_its_raw_area_is_high() -> None:
    """The adversarial twin: bad episodes are longer, and the score is length with a little noise."""
    rng = np.random.default_rng(0)
    good = np.arange(400) % 2 == 0
    length = rng.normal(200, 30, 400) + 60 * ~good
    names = [f"r{i}" for i in range(400)]
    twin = judge((-length + rng.normal(size=400)).tolist(), good.tolist(), length.tolist(), names)
    assert twin.raw > 0.85
    assert twin.gate == "fail"
    assert abs(twin.partial) < 0.1
    exact = judge((-length).tolist(), good.tolist(), np.full(400, 7.0).tolist(), names)
    blind = judge(rng.permutation(length).tolist(), good.tolist(), length.tolist(), names)
    assert blind.gate == "fail"
    assert abs(blind.partial) < 0.1
    assert exact.matched == exact.raw  # one stratum: nothing is held fixed
    honest = judge((good + rng.normal(size=400) * 0.5).tolist(), good.tolist(), length.tolist(), names)
    assert honest.gate == "pass"


def test_lengths_that_are_equal_are_in_one_stratum() -> None:
    assert len(set(strata(np.array([5.0] * 10)).tolist())) == 1
    length = np.array([1.0, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    assert strata(length).tolist() == sorted(strata(length).tolist())
    assert all(len(set(strata(length)[length == v])) == 1 for v in range(1, 6))


def test_partial_correlation_is_that_of_residual_ranks() -> None:
    rng = np.random.default_rng(3)
    length, label = rng.random(200), rng.random(200) < 0.5
    score = label + 2 * length
    ranks = [np.argsort(np.argsort(v)).astype(float) for v in (score, length)]
    target = np.where(label, 1.0, 0.0)
    design = np.column_stack([np.ones(200), ranks[1]])
    residual = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (ranks[0], target)]
    assert partial_spearman(score, label, length) == pytest.approx(np.corrcoef(*residual)[0, 1], abs=1e-6)


def test_without_pairs_of_like_length_nothing_is_claimed() -> None:
    seen = judge([1.0, 2.0, 3.0, 4.0], [True, True, False, False], [1, 1, 90, 90], ["a", "b", "a", "b"])
    assert seen.gate == "not-measurable"
    assert judge([None, None], [True, False], [1, 1], ["a", "b"]).measured == 0


def test_spoilt_pictures_are_seen(lake: Lake) -> None:
    ingest_toy(lake)
    cases = inject(lake, "all", ("blur", "dark", "freeze", "other_pictures"), video_hz=20.0)
    seen = {(j.method, j.kind): j.seen for j in judge_scores(cases, ("blur", "exposure", "freeze"))}
    assert seen["exposure", "dark"].matched == 1.0
    assert seen["blur", "blur"].matched > 0.9
    assert seen["freeze", "freeze"].matched > 0.9


def test_the_command_prints_judgements(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    ingest_takes(lake, [Take(i) for i in range(3)])
    arguments = [
        "curate",
        "evaluate",
        "takes",
        "--methods",
        "ldlj",
        "--defects",
        "tremor,skipped",
        "--video-hz",
        "0",
        "--lake",
        lake.root,
        "--json",
    ]
    assert command(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert {j["kind"] for j in document["judgements"]} == {"tremor", "perturbation", "skipped", "structural", "all"}
    assert len(document["ledger"]) == 12


def test_on_teleoperated_demonstrations_noise_is_seen_and_dropped_grips_are_not(data: Path, lake: Lake) -> None:
    """Real data (IsaacLab): the figures are in docs/quality.md; the shape of the finding is held here."""
    overlay = {"control_hz": 20.0}
    source = open_source(
        str(data / "hdf5" / "isaaclab_stack_cube_annotated.hdf5"), SourceOptions("isaac", contract=overlay), "auto"
    )
    run_stage(IngestStage(lake, source), execution=HERE)
    cases = inject(lake, "isaac", ("noise", "tremor", "early_release", "wrong_object"), video_hz=None)
    seen = {(j.method, j.kind): j.seen for j in judge_scores(cases, ("ldlj", "consistency"))}
    assert seen["ldlj", "noise"].gate == seen["consistency", "noise"].gate == "pass"
    assert seen["consistency", "wrong_object"].gate == "pass"  # the arm's state and its commands part ways
    assert seen["ldlj", "early_release"].gate == "fail"
