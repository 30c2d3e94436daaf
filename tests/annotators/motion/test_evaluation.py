"""Every gate passes on language motions and fails on its adversarial twin."""

from dataclasses import replace

import numpy as np
import pytest

from annotators.base import Batch
from annotators.evaluation import QualityReport
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.evaluation import evaluate_motion, noise_flip_rate, rate_invariance, shuffled
from annotators.motion.kinematic_gates import reversal
from annotators.motion.labels import REASONS, StepLabels
from annotators.motion.language_motion import LanguageMotion
from annotators.motion.probe import displacements, noisy, reference, resampled
from annotators.motion.source import find_source
from schemas.contract import Contract, Feature
from tests.support.motion import batch_of, make_trajectory, sample

MOTION = LanguageMotion()
ECOT = LanguageMotion(LanguageMotionConfig(rule="ecot_verbatim"))


@pytest.fixture(scope="module")
def batch() -> Batch:
    return sample([make_trajectory(seed) for seed in range(25)], 20)


@pytest.fixture(scope="module")
def reports(batch: Batch) -> dict[str, QualityReport]:
    return {r.metric: r for r in MOTION.evaluate(batch)}


@pytest.fixture(scope="module")
def twin(batch: Batch) -> dict[str, QualityReport]:
    return {r.metric: r for r in evaluate_motion(MOTION, batch, shuffled(MOTION.label))}


def test_every_gate_passes_on_known_motion(reports: dict[str, QualityReport]) -> None:
    assert {n: r.gate for n, r in reports.items()} == dict.fromkeys(
        (
            "rate_invariance", "noise_flip_rate", "hold_still_share", "kinematic_agreement", "sign_agreement", "axis_f1",
            "reversal", "predictiveness",
        ),
        "pass",
    )  # fmt: skip
    assert set(reports["axis_f1"].detail) == {"5Hz", "10Hz", "20Hz", "30Hz", "50Hz"}
    assert all(
        r.ci95 and r.ci95[0] <= r.value <= r.ci95[1] for r in reports.values() if r.metric != "axis_f1" and r.value is not None
    )
    assert {r.n_episodes for r in reports.values()} == {25}


@pytest.mark.parametrize(
    "metric",
    ["rate_invariance", "noise_flip_rate", "kinematic_agreement", "sign_agreement", "axis_f1", "reversal", "predictiveness"],
)
def test_shuffled_codes_fail(metric: str, twin: dict[str, QualityReport]) -> None:
    assert twin[metric].gate == "fail"


def test_a_rule_in_frames_fails_rate_invariance(batch: Batch, reports: dict[str, QualityReport]) -> None:
    source = MOTION.usable(batch.contract)
    assert not isinstance(source, str)
    report = rate_invariance(ECOT.label, batch, source[0], {})
    assert report.gate == "fail"
    assert report.value == pytest.approx(reports["rate_invariance"].baselines["ecot_verbatim"])
    assert report.value is not None
    assert report.value > 0.5


def test_a_margin_that_knows_nothing_fails(batch: Batch) -> None:
    def guess(some: Batch) -> StepLabels | str:
        labels = MOTION.label(some)
        assert isinstance(labels, StepLabels)
        return replace(labels, margin=np.random.default_rng(0).permutation(labels.margin))

    source = MOTION.usable(batch.contract)
    assert not isinstance(source, str)
    report = noise_flip_rate(guess, batch, source[0], {})
    assert report.gate == "fail"
    assert report.detail["margin_predicts_flips_auc"] == pytest.approx(0.5, abs=0.08)


def test_a_rule_that_leads_in_time_is_not_the_same_backwards(batch: Batch) -> None:
    def late(some: Batch) -> StepLabels | str:
        labels = MOTION.label(some)
        assert isinstance(labels, StepLabels)
        return replace(labels, code=np.roll(labels.code, 3, axis=1))

    source = MOTION.usable(batch.contract)
    assert not isinstance(source, str)
    assert reversal(late, batch, source[0], MOTION.config.window_s, {}).gate == "fail"


def test_steps_near_a_threshold_may_be_left_out(batch: Batch) -> None:
    strict = LanguageMotion(LanguageMotionConfig(min_margin=0.05))
    every, sure = MOTION.label(batch), strict.label(batch)
    assert isinstance(every, StepLabels)
    assert isinstance(sure, StepLabels)
    near = (every.reason == 0) & (every.margin < 0.05)
    assert (sure.reason[near] == REASONS.index("near_threshold")).all()
    assert (sure.reason[~near] == every.reason[~near]).all()
    assert 0.005 < near.mean() < 0.2


def test_thresholds_ten_times_too_high_hold_still(batch: Batch) -> None:
    deaf = LanguageMotion(LanguageMotionConfig(v_on=0.5, w_on=2.5, grip_on=2.0))
    found = {r.metric: r for r in deaf.evaluate(batch)}
    assert found["hold_still_share"].gate == "fail"


def test_baselines_are_worse_and_the_margin_knows_which_labels_flip(reports: dict[str, QualityReport]) -> None:
    agreement, predicts = reports["kinematic_agreement"], reports["predictiveness"]
    assert agreement.value is not None
    assert predicts.value is not None
    assert agreement.value > 0.95 > agreement.baselines["ecot_verbatim"] > agreement.baselines["shuffled"]
    assert predicts.value > predicts.baselines["ecot_verbatim"] > predicts.baselines["shuffled"]
    assert predicts.baselines["kmeans_of_actions"] > predicts.value  # it has seen what it predicts
    assert reports["noise_flip_rate"].detail["margin_predicts_flips_auc"] > 0.7


def test_a_robot_without_other_senses_is_not_measurable(batch: Batch) -> None:
    robot = Batch(replace(batch.contract, kind="robot"), batch.steps)
    found = {r.metric: r for r in MOTION.evaluate(robot)}
    assert found["kinematic_agreement"].gate == "not-measurable"
    assert found["kinematic_agreement"].value is None
    bare = Batch(replace(batch.contract, features=(Feature("action", "float32", (7,), role="action"),)), batch.steps)
    assert {r.gate for r in MOTION.evaluate(bare)} == {"not-measurable"}


def test_resampling_keeps_the_motion_and_noise_has_the_size_asked_for(batch: Batch) -> None:
    source = MOTION.usable(batch.contract)
    assert not isinstance(source, str)
    few = batch.take([0, 1])
    there = resampled(few, source[0], 50)
    assert np.diff(there.starts).tolist() == [501, 501]
    truth = make_trajectory(0).at(np.arange(501) / 50)
    state = np.stack(there.steps.column("observation.state").to_pylist()).T[:, :501]
    np.testing.assert_allclose(state[:3], truth[0], atol=2e-3)
    assert (np.abs((state[3:7] * truth[1]).sum(0)) > 1 - 1e-5).all()
    before = np.stack(few.steps.column("observation.state").to_pylist()).T
    after = np.stack(noisy(few, source[0], 0.001, 1.0, 0).steps.column("observation.state").to_pylist()).T
    assert np.sqrt(((after - before)[:3] ** 2).sum(0).mean()) == pytest.approx(0.001, rel=0.1)
    assert 2 * np.degrees(np.arccos(np.clip(np.abs((after * before)[3:7].sum(0)), 0, 1))).mean() == pytest.approx(0.92, rel=0.1)
    assert (after[7] == before[7]).all()


def test_displacements_stop_at_the_end_of_the_episode(batch: Batch) -> None:
    found = displacements(batch, np.tile(batch.t_ns * 1e-9, (1, 1)), 0.6)
    assert np.nanmax(np.abs(found - 0.6)) < 1e-9
    assert np.isnan(found[0, batch.starts[1] - 12 : batch.starts[1]]).all()
    assert np.isfinite(found[0, batch.starts[1] - 13])


@pytest.mark.parametrize("role", ["state", "joint_position"])
def test_commanded_joints_are_compared_with_the_measured_ones(role: str) -> None:
    names = ("left_elbow", "left_shoulder_pitch")
    action = Feature("action", "float32", (2,), names, role="action", representation="absolute")
    state = Feature("observation.state", "float32", (2,), names, role=role)  # type: ignore[arg-type]
    contract = Contract("one", "robot", "toy", 20.0, features=(action, state))
    found = find_source(contract)
    assert found is not None
    t = np.arange(40) / 20
    batch = batch_of(
        contract, np.rint(t * 1e9).astype(np.int64), [40], {"action": np.stack([t, -t]), "observation.state": np.stack([t, -t])}
    )
    truth = reference(batch, found)
    assert not isinstance(truth, str)
    assert truth[2] == "joint proprioception"
