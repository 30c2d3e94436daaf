from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.motion.corrections import CorrectionsConfig, MotionCorrections
from schemas.contract import Feature, Part
from tests.contracts.annotator import AnnotatorContract
from tests.support.motion import arm_contract, batch_of

CORRECTIONS = MotionCorrections()
FLAG = Feature("intervention", "bool", (1,))
PARTS = (Part("ee_position", 0, 3, representation="delta", unit="m"), Part("gripper", 6, 7))
ACTION = Feature("action", "float32", (7,), role="action", representation="delta", parts=PARTS)
POLICY = replace(ACTION, name="complementary_info.policy_action", role="other")


def episodes(hz: int, count: int = 3, *, policy: bool = True, flagged: bool = True) -> Batch:
    """Fly forward at 20 cm/s for two seconds; then a person takes over and flies left, while the policy would go on."""
    t = np.arange(4 * hz) / hz
    mine = (t >= 2) & (t < 3)
    state = np.zeros((8, len(t)))
    state[3], state[7] = 1, 1
    state[0] = 0.2 * np.where(t < 2, t, np.where(t < 3, 2, t - 1))
    state[1] = 0.2 * np.clip(t - 2, 0, 1)
    action, wish = np.zeros((7, len(t))), np.zeros((7, len(t)))
    wish[0] = 0.2 / hz
    action[0], action[1] = np.where(mine, 0, 0.2 / hz), np.where(mine, 0.2 / hz, 0)
    columns = {"observation.state": state, "action": action} | ({POLICY.name: wish} if policy else {})
    features = (arm_contract(hz).features[0], ACTION, *((POLICY,) if policy else ()))
    contract = replace(arm_contract(hz), features=features)
    clock = np.tile(np.rint(t * 1e9).astype(np.int64), count)
    batch = batch_of(contract, clock, [len(t)] * count, {k: np.tile(v, count) for k, v in columns.items()})
    if not flagged:
        return batch
    told = replace(contract, features=(*contract.features, FLAG))
    return replace(batch, contract=told, steps=batch.steps.append_column(FLAG.name, pa.array(np.tile(mine, count))))


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return CORRECTIONS

    @pytest.fixture
    def changed(self) -> Any:
        return MotionCorrections(CorrectionsConfig(v_on=0.08))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: episodes(hz) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        batch = episodes(20)
        flag = np.array(batch.steps.column("intervention").to_pylist())
        flag[: batch.starts[1]] = False
        place = batch.steps.column_names.index("intervention")
        return replace(batch, steps=batch.steps.set_column(place, "intervention", pa.array(flag)))


def rows_of(batch: Batch, annotator: MotionCorrections = CORRECTIONS) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def test_what_a_person_changed_is_said() -> None:
    row = rows_of(episodes(20, 1))[0]
    assert row["text"] == "no, more backward and to the left"
    assert row["code"][:3] == [-1, 1, 0]
    assert row["against"] == "policy_action"
    assert row["style"] == "interjection"
    assert (row["start_ns"], row["end_ns"]) == (2_000_000_000, 3_000_000_000)


def test_without_the_policys_action_the_change_of_velocity_tells() -> None:
    row = rows_of(episodes(20, 1, policy=False))[0]
    assert row["against"] == "velocity_before"
    assert "to the left" in row["text"]
    assert row["code"][:2] == [-1, 1]


def test_nothing_to_correct_is_told() -> None:
    assert {r["reason"] for r in rows_of(episodes(20, flagged=False))} == {"no_intervention_flag"}
    same = episodes(20, 1)
    place = same.steps.column_names.index(POLICY.name)
    agreed = replace(same, steps=same.steps.set_column(place, POLICY.name, same.steps.column("action")))
    assert [r["reason"] for r in rows_of(agreed)] == ["no_difference"]


def test_corrections_agree_with_the_raw_actions_and_their_opposites_do_not() -> None:
    (report,) = CORRECTIONS.evaluate(episodes(20))
    assert (report.gate, report.value, report.baselines["opposite"]) == ("pass", 1.0, 0.0)
    (bare,) = CORRECTIONS.evaluate(episodes(20, policy=False))
    assert bare.gate == "not-measurable"
