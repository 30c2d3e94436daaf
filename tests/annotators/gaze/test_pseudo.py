"""Pseudo-gaze of arms whose motion and camera are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.gaze.pseudo import PseudoGaze, PseudoGazeConfig
from annotators.traces.hand import hand_source, read_hand
from schemas.contract import Stream
from schemas.errors import UsageError
from tests.annotators.traces.test_trace import without_first
from tests.contracts.annotator import AnnotatorContract
from tests.support.gaze import Ego, wearer
from tests.support.scripts import sample_scripts
from tests.support.views import filmed, framed, front, seen

PSEUDO = PseudoGaze()


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return PSEUDO

    @pytest.fixture
    def changed(self) -> Any:
        return PseudoGaze(PseudoGazeConfig(most_s=1.0))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: filmed(hz) for hz in (10, 20, 50)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        return without_first(filmed(20))


def rows(batch: Batch, annotator: PseudoGaze = PSEUDO) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def test_the_point_is_that_of_the_next_contact_or_of_the_hand() -> None:
    batch = filmed(20, (0, 1))
    source = hand_source(batch.contract)
    assert source is not None
    hand = read_hand(batch, source, (0.0, 0.0, 0.0))
    for row in rows(batch):
        e = batch.episodes.index(row["episode_id"])
        a, b, step = int(batch.starts[e]), int(batch.starts[e + 1]), row["start_step"]
        events = [s for s in np.flatnonzero(hand.event[a:b]) if s >= step and batch.t_ns[a + s] - batch.t_ns[a + step] <= 2.5e9]
        at = events[0] if events else step
        want = (seen(hand.tip[:, a + at : a + at + 1])[:, 0] + 0.5) / 256
        if row["valid"]:
            assert row["xy"] == pytest.approx(want, abs=1e-5)
            assert (row["target"], row["source"]) == ("contact" if events else "hand", "pseudo_intent")
            assert (row["until_s"] is None) == (not events)
        else:
            assert row["reason"] == "out_of_view"
            assert not ((want >= 0) & (want <= 1)).all()


def test_a_dataset_with_recorded_gaze_gets_none() -> None:
    assert {r["reason"] for r in rows(wearer((0,), 15, Ego(seconds=3.0)))} == {"recorded_gaze"}
    arm = filmed(20, (0,))
    both = replace(arm.contract, streams=(*arm.contract.streams, Stream("gaze", ("norm_pos_x", "norm_pos_y"))))
    assert {r["reason"] for r in rows(replace(arm, contract=both))} == {"recorded_gaze"}


def test_it_lies_on_what_is_touched_and_its_twin_does_not() -> None:
    scripts = sample_scripts([0, 1, 2, 3], 20)
    contract = replace(scripts.contract, cameras=(front(),))
    batch = Batch(contract, framed(scripts.steps, contract))
    (report,) = PSEUDO.evaluate(batch)
    assert report.gate == "pass"
    assert report.value is not None
    assert report.value < 0.3 * min(report.baselines.values())
    place = batch.steps.column_names.index("observation.state")
    state = np.stack(batch.steps.column(place).to_pylist())
    for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        state[a:b, 7] = np.roll(state[a:b, 7], (b - a) // 3)  # the gripper closes at other times: nothing is there
    column = pa.FixedSizeListArray.from_arrays(pa.array(state.reshape(-1), pa.float32()), 8)
    (twin,) = PSEUDO.evaluate(replace(batch, steps=batch.steps.set_column(place, batch.steps.schema.field(place), column)))
    assert twin.gate != "pass"
    (bare,) = PSEUDO.evaluate(filmed(20))
    assert bare.gate == "not-measurable"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="most_s"):
        PseudoGaze.from_settings({"most_s": 0})
