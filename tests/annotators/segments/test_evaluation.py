"""Every gate passes on scripts with known phases and fails on its adversarial twin."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.evaluation import QualityReport
from annotators.motion.things import object_places
from annotators.segments import cuts as c
from annotators.segments.config import SegmentsConfig
from annotators.segments.evaluation import against_truth, compression, cover_and_order, evaluate_segments, rate_invariance
from annotators.segments.segments import Segments
from annotators.segments.truth import find_truth
from schemas.contract import Feature, Stream
from tests.support.scripts import sample_scripts

SEGMENTS = Segments(SegmentsConfig(motions=False))


@pytest.fixture(scope="module")
def batch() -> Batch:
    return sample_scripts(list(range(20, 29)), 20)


def cutter(batch: Batch) -> c.Cuts:
    return c.cuts_of(SEGMENTS.run(c.without_truth(batch)), batch)


@pytest.fixture(scope="module")
def reports(batch: Batch) -> dict[str, QualityReport]:
    return {r.metric: r for r in SEGMENTS.evaluate(batch)}


@pytest.fixture(scope="module")
def twin(batch: Batch) -> dict[str, QualityReport]:
    return {r.metric: r for r in evaluate_segments(SEGMENTS, batch, lambda b: c.at_random(cutter(b), b, seed=len(b.t_ns)))}


def test_every_gate_passes_on_known_scripts(reports: dict[str, QualityReport]) -> None:
    assert {n: r.gate for n, r in reports.items()} == dict.fromkeys(
        (
            "boundary_f1_0.2s", "boundary_f1_0.5s", "frame_accuracy", "over_segmentation", "cover_and_order", "rate_invariance",
            "reversal", "compression", "skill_agreement",
        ),
        "pass",
    )  # fmt: skip
    near = reports["boundary_f1_0.2s"]
    assert near.value is not None
    assert near.value > 0.85
    assert set(near.baselines) == {"uniform_same_count", "gripper_only", "random_same_count"}
    assert set(reports["frame_accuracy"].detail["segments"]) == {
        "edit_score",
        "f1_at_iou_0.1",
        "f1_at_iou_0.25",
        "f1_at_iou_0.5",
    }


@pytest.mark.parametrize("metric", ["boundary_f1_0.2s", "boundary_f1_0.5s", "frame_accuracy", "rate_invariance", "reversal"])
def test_boundaries_and_labels_at_random_fail(metric: str, twin: dict[str, QualityReport]) -> None:
    assert twin[metric].gate == "fail"


def test_uniform_segments_fail(batch: Batch) -> None:
    found = {r.metric: r.gate for r in against_truth(SEGMENTS, batch, c.uniform(cutter(batch), batch))}
    assert found["boundary_f1_0.2s"] == found["frame_accuracy"] == "fail"


def test_a_cut_in_frames_fails_rate_invariance(batch: Batch, reports: dict[str, QualityReport]) -> None:
    report = rate_invariance(batch, c.in_frames(cutter))
    assert report.gate == "fail"
    assert report.value is not None
    assert report.value <= reports["rate_invariance"].baselines["counted_in_frames_at_5Hz"] < 0.7


def test_a_boundary_at_every_step_over_segments(batch: Batch) -> None:
    spans = [batch.t_ns[a:b] for a, b in pairwise(batch.starts)]
    shattered = c.Cuts(tuple((t[1:] - t[0]) * 1e-9 for t in spans), np.zeros(batch.steps.num_rows, np.int64))
    found = {r.metric: r.gate for r in against_truth(SEGMENTS, batch, shattered)}
    assert found["over_segmentation"] == found["boundary_f1_0.2s"] == "fail"


def test_boundaries_out_of_order_are_no_cover(batch: Batch) -> None:
    found = cutter(batch)
    assert cover_and_order(batch, found).gate == "pass"
    assert cover_and_order(batch, replace(found, boundaries=tuple(b[::-1] for b in found.boundaries))).gate == "fail"


def test_labels_without_habits_do_not_compress(batch: Batch) -> None:
    found, rng = cutter(batch), np.random.default_rng(1)
    assert compression(batch, replace(found, label=rng.integers(0, 9, len(found.label)))).gate == "fail"


def test_the_truth_is_read_from_flags_and_texts_and_never_by_the_annotator(batch: Batch) -> None:
    told = find_truth(batch)
    assert told is not None
    assert told.named
    assert c.without_truth(batch).steps.column_names == [n for n in batch.steps.column_names if n != "sim.phase"]
    assert "sim.phase" not in SEGMENTS.requires(batch.contract)
    bare = sample_scripts([0, 1], 20, truth=False)
    assert find_truth(bare) is None
    gates = {r.metric: r.gate for r in SEGMENTS.evaluate(bare)}
    assert gates["boundary_f1_0.2s"] == gates["frame_accuracy"] == "not-measurable"
    assert gates["cover_and_order"] == "pass"


def test_other_names_for_phases_cannot_be_compared_frame_by_frame(batch: Batch) -> None:
    features = tuple(replace(f, names=()) if f.name == "sim.phase" else f for f in batch.contract.features)
    other = replace(batch, contract=replace(batch.contract, features=features)).take([0, 1, 2])
    gates = {r.metric: r.gate for r in against_truth(SEGMENTS, other, cutter(other))}
    assert gates["frame_accuracy"] == "not-measurable"
    assert gates["boundary_f1_0.2s"] in ("pass", "fail")


def test_a_robot_that_nothing_is_known_of(batch: Batch) -> None:
    bare = replace(batch, contract=replace(batch.contract, features=(Feature("action", "float32", (7,), role="action"),)))
    assert {r.gate for r in SEGMENTS.evaluate(bare)} == {"not-measurable"}


def test_signals_are_played_backwards_with_the_steps() -> None:
    batch = sample_scripts([21], 20, truth=False)
    name = "sim.object_pose.red_cup"
    places = batch.steps.column(name).to_pylist()
    rows = {
        "episode_id": pa.array([batch.episodes[0]] * len(places)).dictionary_encode(),
        "stream": pa.array([name] * len(places)).dictionary_encode(),
        "t_ns": pa.array(batch.t_ns),
        "end_ns": pa.nulls(len(places), pa.int64()),
        "values": pa.array(places, pa.list_(pa.float64())),
        "text": pa.nulls(len(places), pa.string()),
    }
    contract = replace(batch.contract, features=batch.contract.features[:1], streams=(Stream(name),))
    told = replace(batch, contract=contract, steps=batch.steps.drop_columns([name]), streams=pa.table(rows))
    there, back = object_places(told)["red cup"], object_places(c.backwards(told))["red cup"]
    np.testing.assert_allclose(there, back[:, ::-1], atol=1e-6)
    assert c.cuts_of(SEGMENTS.run(told), told).boundaries[0].tolist() == cutter(batch).boundaries[0].tolist()
