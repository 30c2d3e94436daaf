from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.segments.config import PHASES, SegmentsConfig
from annotators.segments.segments import Segments
from schemas.contract import Feature
from schemas.errors import AnnotatorError, UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.motion import batch_of, make_trajectory, sample
from tests.support.scripts import CUP, make_script, sample_scripts
from transforms.macros import expand

SEGMENTS = Segments()


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return SEGMENTS

    @pytest.fixture
    def changed(self) -> Any:
        return Segments(SegmentsConfig(penalty=2.0, scale=(0.2, 0.4, 0.3), merges=((0, 1), (9, 2))))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: sample_scripts([0, 1, 2, 4], hz, truth=False) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = sample([make_trajectory(s, 4.0) for s in range(3)], 20)
        state = np.stack(whole.steps.column("observation.state").to_pylist()).T
        state[0, : whole.starts[1]] = np.nan
        action = np.stack(whole.steps.column("action").to_pylist()).T
        return batch_of(
            whole.contract, whole.t_ns, np.diff(whole.starts).tolist(), {"observation.state": state, "action": action}
        )


def rows_of(batch: Batch, annotator: Segments = SEGMENTS) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def true_phases(seed: int) -> list[str]:
    phase = make_script(seed).phase
    return [PHASES[p] for p in phase[np.concatenate([[True], phase[1:] != phase[:-1]])]]


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_a_script_is_told_phase_by_phase(seed: int) -> None:
    rows = rows_of(sample_scripts([seed], 20))
    assert [r["phase"] for r in rows] == true_phases(seed)
    phase = make_script(seed).phase
    edges = np.flatnonzero(phase[1:] != phase[:-1]) / 1000
    found = np.array([r["start_ns"] for r in rows[1:]]) * 1e-9
    assert np.abs(found - edges).max() < 0.35
    assert all(r["text"].endswith("red cup") for r in rows if r["phase"] in ("grasp", "transport", "place", "push"))
    assert {r["style"] for r in rows} == {"subtask"}
    assert rows[-1]["termination"] == "episode_end"
    assert rows[0]["boundary_score"] is None
    assert min(r["boundary_score"] for r in rows[1:]) >= 0


def test_rows_cover_the_episode_in_order() -> None:
    batch = sample_scripts([0, 1, 2], 20)
    rows = rows_of(batch)
    for episode, size in zip(batch.episodes, np.diff(batch.starts), strict=True):
        mine = [r for r in rows if r["episode_id"] == episode]
        assert mine[0]["start_step"] == 0
        assert mine[-1]["end_step"] == size
        assert [r["start_step"] for r in mine[1:]] == [r["end_step"] for r in mine[:-1]]
        assert [r["start_ns"] for r in mine[1:]] == [r["end_ns"] for r in mine[:-1]]


def test_energies_are_a_simplex_of_what_moves() -> None:
    rows = rows_of(sample_scripts([1, 2], 20))
    for row in rows:
        assert sum(row["energies"]) == pytest.approx(1, abs=1e-5)
        want = {"grasp": 2, "release": 2, "rotate": 1, "transport": 0, "place": 0}.get(row["phase"])
        assert want is None or int(np.argmax(row["energies"])) == want


def test_without_objects_the_gripper_still_tells() -> None:
    batch = sample_scripts([1], 20, things=False)
    rows = rows_of(batch)
    assert {"reach", "grasp", "release", "retract"} <= {r["phase"] for r in rows}
    assert all(r["object"] is None for r in rows)
    assert next(r["text"] for r in rows if r["phase"] == "grasp") == "close the gripper"
    seen = rows_of(sample_scripts([1], 20), Segments(SegmentsConfig(privileged=False)))
    assert all(r["object"] is None for r in seen)
    assert CUP not in Segments(SegmentsConfig(privileged=False)).requires(sample_scripts([1], 20).contract)
    assert CUP in SEGMENTS.requires(sample_scripts([1], 20).contract)


def test_the_hierarchy_goes_from_the_task_to_the_motions() -> None:
    batch = sample_scripts([1], 20)
    place = batch.steps.column_names.index("language")
    said = pa.array(["clear the table"] * batch.steps.num_rows).dictionary_encode()
    rows = rows_of(replace(batch, steps=batch.steps.set_column(place, "language", said)))
    assert {r["task"] for r in rows} == {"clear the table"}
    close = next(r for r in rows if r["phase"] == "grasp")
    assert any("close gripper" in motion for motion in close["motions"])
    assert all(len(r["motion_ngrams"]) <= 3 for r in rows)
    assert any(" > " in text for r in rows for text in r["motion_ngrams"])
    quiet = rows_of(batch, Segments(SegmentsConfig(motions=False)))
    assert all(r["motions"] == [] for r in quiet)


def test_calibration_takes_medians_and_habits_of_the_dataset() -> None:
    batch = sample_scripts(list(range(8)), 20)
    mine = SEGMENTS.calibrated(batch)
    assert mine.fingerprint() != SEGMENTS.fingerprint()
    assert Segments.from_settings(mine.settings()).fingerprint() == mine.fingerprint()
    assert mine.config.scale != SEGMENTS.config.scale
    assert mine.config.merges
    rows = rows_of(batch, mine)
    for episode in batch.episodes:
        own = [r for r in rows if r["episode_id"] == episode]
        codes = [r["macro"] for r in own if r["macro_step"] == 0]
        assert expand(codes, mine.config.merges, len(PHASES)) == [r["label"] for r in own]
    assert len([r for r in rows if r["macro_step"] == 0]) < len(rows)


def test_a_gap_is_told_and_both_sides_are_cut() -> None:
    batch = sample_scripts([1], 20)
    half = batch.steps.num_rows // 2
    late = batch.t_ns + np.where(np.arange(batch.steps.num_rows) >= half, 2_000_000_000, 0)
    place = batch.steps.column_names.index("t_ns")
    rows = rows_of(replace(batch, steps=batch.steps.set_column(place, "t_ns", pa.array(late))))
    before = next(r for r in rows if r["termination"] == "gap")
    assert before["end_step"] == half
    assert before["end_ns"] <= late[half]
    assert rows[-1]["termination"] == "episode_end"
    state = np.stack(batch.steps.column("observation.state").to_pylist()).T
    state[1, half : half + 20] = np.nan
    holed = rows_of(batch_of(sample([make_trajectory(0, 1.0)], 20).contract, batch.t_ns, [batch.steps.num_rows],
        {"observation.state": state, "action": np.zeros((7, batch.steps.num_rows))}))  # fmt: skip
    told = [r["reason"] for r in holed]
    assert told.count("non_finite_input") == 1
    gap = told.index("non_finite_input")
    assert holed[gap - 1]["termination"] == "gap"
    assert 0 < gap < len(holed) - 1


def shout(segments: list[dict[str, Any]]) -> list[str]:
    return [s["text"].upper() for s in segments]


def mumble(segments: list[dict[str, Any]]) -> list[str]:
    return [s["text"] for s in segments[1:]]


def test_a_callable_replaces_words_and_nothing_else() -> None:
    batch = sample_scripts([1, 2], 20)
    plain, loud = (rows_of(batch, Segments(SegmentsConfig(wording=w))) for w in ("", f"{__name__}:shout"))
    for a, b in zip(plain, loud, strict=True):
        assert b["text"] == a["text"].upper()
        assert {k: v for k, v in a.items() if k not in ("text", "annotator_fp")} == {
            k: v for k, v in b.items() if k not in ("text", "annotator_fp")
        }
    with pytest.raises(AnnotatorError, match="one per segment"):
        Segments(SegmentsConfig(wording=f"{__name__}:mumble")).run(batch)
    with pytest.raises(UsageError, match="names no function"):
        Segments(SegmentsConfig(wording="nowhere:at_all")).run(batch)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hz": 0.0}, "above zero"),
        ({"penalty": -1.0}, "negative"),
        ({"model": "wavelet"}, "unknown"),
        ({"longest_s": 0.4}, "twice"),
        ({"scale": (1.0, 0.0, 1.0)}, "three positive"),
        ({"merges": ((0, 9),)}, "earlier codes"),
        ({"wording": "shout"}, "module:function"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        SegmentsConfig(**wrong)


def test_contacts_mark_boundaries() -> None:
    batch = sample_scripts([1], 20, truth=False)
    count = batch.steps.num_rows
    force = np.zeros(count, np.float32)
    force[count // 3 :] = 4.0
    feature = Feature("observation.wrist_force", "float32", (1,), unit="N")
    more = replace(batch, contract=replace(batch.contract, features=(*batch.contract.features, feature)))
    felt = replace(more, steps=batch.steps.append_column("observation.wrist_force", pa.array(force)))
    assert "observation.wrist_force" in SEGMENTS.requires(felt.contract)
    jump = (batch.t_ns[count // 3] - batch.t_ns[0]) * 1e-9
    strict = Segments(SegmentsConfig(contact=9.0))
    found = [r["end_ns"] * 1e-9 for r in rows_of(felt, strict) if r["termination"] == "contact"]
    assert found == [pytest.approx(jump, abs=0.2)]


def test_two_arms_are_told_apart(data: Path) -> None:
    from tests.annotators.motion.test_language_motion import real_g1

    batch = real_g1(data)
    rows = rows_of(batch)
    assert {r["who"] for r in rows} <= {"left arm", "right arm"}
    assert len(rows) > 20
    assert sum(r["phase"] == "grasp" for r in rows) >= 3
