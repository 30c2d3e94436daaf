"""The annotator on filmed episodes: its contract, what it finds, negatives, duplicates, robots told apart; gates and their twins."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from annotators.base import Batch
from annotators.clips import no_clip
from annotators.evaluation import QualityReport
from annotators.triplets.candidates import Segment, find_candidates
from annotators.triplets.config import TripletsConfig
from annotators.triplets.evaluation import evaluate_triplets
from annotators.triplets.robot import robot_values
from annotators.triplets.rows import Kept, Row, negatives_of, without_duplicates
from annotators.triplets.things import read_poses
from annotators.triplets.triplets import Triplets
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.table_film import film


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return Triplets(TripletsConfig(candidates=("clip",), negatives=False))

    @pytest.fixture
    def changed(self) -> Any:
        return Triplets(TripletsConfig(camera_px=0.8, candidates=("clip",), negatives=False))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: film(hz) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self, rates: dict[int, Batch]) -> Batch:
        batch = rates[10].take([0, 1])
        clips = {c: (no_clip(len(have[0].seen)), have[1]) for c, have in batch.clips.items()}
        return replace(batch, clips=clips)


def found(batch: Batch, **settings: Any) -> list[dict[str, Any]]:
    return Triplets(TripletsConfig(**settings)).run(batch).to_pylist()


def test_what_was_pushed_is_found_and_the_arm_kept_apart() -> None:
    rows = found(film(10))
    clips = [r for r in rows if r["label"] == "positive" and r["candidate"] == "clip"]
    assert len(clips) == 3
    assert {r["prompt"] for r in clips} == {"push the thing aside"}
    assert {r["edit_kind"] for r in clips} == {"location"}
    for row in clips:
        assert row["mask_png"].startswith(b"\x89PNG")
        assert row["camera_px"] < 0.3
        assert row["parts"] in {1, 2}
        assert abs(row["moved"][0]) > 3 * abs(row["moved"][1])
    assert {r["edit_kind"] for r in rows if r["label"] == "arm_only"} == {"arm_only"}
    refused = [r for r in rows if not r["valid"]]
    assert refused
    assert all(r["filter"] and r["reason"] for r in refused)


def test_a_camera_that_shook_is_refused() -> None:
    rows = found(film(10, seeds=(1, 2), shake=2.0), candidates=("clip",))
    assert {r["reason"] for r in rows} == {"camera_moved"}


def test_every_positive_brings_hard_negatives() -> None:
    rows = found(film(10))
    by = {
        label: [r for r in rows if r["label"] == label]
        for label in ("positive", "neg_reverse", "neg_no_change", "neg_camera", "goal")
    }
    assert len(by["neg_reverse"]) == len(by["neg_no_change"]) == len(by["neg_camera"]) == len(by["positive"])
    for row in by["neg_reverse"]:
        assert row["source_ns"] > row["target_ns"]
    assert all(r["source_ns"] == r["target_ns"] for r in by["neg_no_change"])
    assert all(np.hypot(*r["shift"]) * 256 == pytest.approx(4.0, rel=1e-5) for r in by["neg_camera"])
    ends = {r["episode_id"]: r["end_ns"] for r in rows if r["candidate"] == "clip"}
    assert all((r["prompt"] is not None) == (r["target_ns"] >= ends[r["episode_id"]]) for r in by["goal"])


def test_directions_and_scenes_make_negatives() -> None:
    one = Row(0, 5, label="positive", prompt="move the cup to the left", source_ns=0, target_ns=5)
    other = Row(7, 9, label="positive", prompt="open the lid", source_ns=7, target_ns=9)
    labels = {r.label: r for r in negatives_of(one, [one, other], TripletsConfig(), "e")}
    assert labels["neg_direction"].prompt == "move the cup to the right"
    assert (labels["neg_scene"].source_ns, labels["neg_scene"].target_ns) == (7, 5)
    assert "neg_direction" not in {r.label for r in negatives_of(other, [other], TripletsConfig(), "e")}


def test_of_two_alike_the_better_stays() -> None:
    here, there = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    here[:4], there[4:] = True, True
    rows = [Row(0, 1, label="positive", confidence=c) for c in (0.4, 0.9, 0.5)]
    kept = [Kept(rows[0], (1, 2), here), Kept(rows[1], (1, 3), here), Kept(rows[2], (1, 2), there)]
    assert [k.row.reason for k in without_duplicates(kept, 6)] == ["duplicate", None, None]
    far = [Kept(rows[0], (0, 0), here), Kept(rows[1], (2**64 - 1, 0), here)]
    assert [k.row.reason for k in without_duplicates(far, 6)] == [None, None]


def test_masks_that_move_while_everything_rests_are_the_robot() -> None:
    batch = film(10)
    assert [robot_values(c, p) for c, p in zip(batch.clips["segmentation.front"], read_poses(batch), strict=True)] == [(3,)] * 3


def test_without_masks_the_hand_must_be_back() -> None:
    rows = found(film(10, masks=False), candidates=("segment", "clip"), poses=False)
    assert {r["reason"] for r in rows if r["candidate"] == "segment"} <= {"robot_unknown", "too_short"}
    assert {r["label"] for r in rows if r["candidate"] == "clip"} >= {"positive"}


def test_a_robot_that_tells_nothing_is_not_believed_and_a_person_is() -> None:
    batch = film(10, masks=False)
    silent = replace(batch.contract, features=(), streams=())
    steps = batch.steps.drop_columns(["observation.state"])
    for kind, reason in (("robot", "robot_unknown"), ("human", None)):
        rows = found(
            replace(batch, contract=replace(silent, kind=kind), steps=steps, streams=None), candidates=("clip",), negatives=False
        )
        assert {r["reason"] for r in rows} == {reason}


def test_candidates_come_from_segments_events_captions_and_goals() -> None:
    run = [Segment(0, 1, "reach", "cup", "reach for the cup"), Segment(1, 2, "grasp", "cup", "grasp the cup"), Segment(2, 3, "place", "cup", "place the cup"),
           Segment(3, 4, "retract", "cup", "move away")]  # fmt: skip
    captions = ["a"] * 3 + ["pretend to b"] * 2
    some = find_candidates([run], captions, np.arange(5.0), TripletsConfig(goal_every_s=3.0))
    assert [(c.source_s, c.target_s, c.prompt) for c in some if c.kind == "event"] == [(0, 4.2, "move the cup")]
    assert [(c.source_s, c.target_s, c.reason) for c in some if c.kind == "clip"] == [(0, 2, None), (3, 4, "caption_refused")]
    assert [(c.source_s, c.target_s, c.prompt is not None) for c in some if c.kind == "goal"] == [
        (0, 0.5, False), (0, 1, False), (0, 2, False), (0, 4, True), (3, 3.5, False), (3, 4, True),
    ]  # fmt: skip


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="candidates"):
        TripletsConfig(candidates=("guess",))
    with pytest.raises(UsageError, match="areas"):
        TripletsConfig(least_area=0.5)
    with pytest.raises(UsageError, match="hz"):
        TripletsConfig(hz=0)


def reports(batch: Batch, **twin: Any) -> dict[str, QualityReport]:
    return {r.metric: r for r in evaluate_triplets(Triplets(TripletsConfig(candidates=("clip", "segment"))), batch, **twin)}


def test_gates_pass_on_a_simulator_and_twins_fail_them() -> None:
    batch = film(10)
    good = reports(batch)
    for name in ("precision", "camera_error_px", "twins_refused"):
        assert good[name].gate == "pass", good[name]
    assert good["recall"].detail["by_kind"]["location"]["recall"] > 0.3
    batch = batch.take([0, 1])
    blind = reports(batch, verdicts=lambda pair: None)
    assert blind["precision"].gate == "fail"
    assert blind["twins_refused"].gate == "fail"
    odd = reports(batch, verdicts=lambda pair: None if int(pair.source.sum()) > int(pair.target.sum()) else "other")
    assert odd["reverse_symmetry"].gate == "fail"
