"""Negatives, objects ahead, and what rows say about them."""

from typing import Any

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.check import check_output
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.language_motion import LanguageMotion
from tests.support.motion import make_trajectory, sample
from tests.support.scripts import CUP, make_script, sample_scripts

MOTION = LanguageMotion()


def rows_of(batch: Batch, annotator: LanguageMotion = MOTION) -> list[dict[str, Any]]:
    return [r for r in check_output(annotator, batch, annotator.run(batch)).to_pylist() if r["valid"]]


def test_a_negative_is_never_the_motion_itself() -> None:
    rows = rows_of(sample([make_trajectory(s) for s in range(6)], 20))
    for row in rows:
        differs = [i for i, (a, b) in enumerate(zip(row["code"], row["negative_code"], strict=True)) if a != b]
        assert len(differs) == 1
        assert row["negative_code"][differs[0]] != 0
        assert row["code"][differs[0]] in (0, -row["negative_code"][differs[0]])
        assert row["negative"] != row["text"]
        assert any(row["code"]) == (row["text"] != "hold still")
    flipped = {i for r in rows for i, (a, b) in enumerate(zip(r["code"], r["negative_code"], strict=True)) if a != b}
    assert len(flipped) >= 6


def test_the_hand_moves_toward_the_cup_and_not_with_it() -> None:
    batch = sample_scripts([1, 3], 20, truth=False)
    rows = rows_of(batch)
    seen = [r for r in rows if r["toward"] is not None]
    assert {r["toward"] for r in seen} == {"red cup"}
    script = make_script(1)
    names = ("reach", "grasp", "transport", "place", "release", "push", "rotate", "retract", "idle")
    for row in (r for r in seen if r["episode_id"] == batch.episodes[0]):
        middle = (row["start_ns"] + row["end_ns"]) // 2_000_000
        assert names[script.phase[min(middle, len(script.phase) - 1)]] in ("reach", "idle")
    first = next(r for r in rows if "move" in r["text"])
    assert first["toward"] == "red cup"


def test_objects_may_be_named_or_left_out() -> None:
    batch = sample_scripts([1], 20, truth=False)
    spoken = rows_of(batch, LanguageMotion(LanguageMotionConfig(objects="text")))
    assert any(r["text"].startswith("move arm toward the red cup") for r in spoken)
    assert all(r["toward"] is not None for r in spoken if "toward the red cup" in r["text"])
    blind = LanguageMotion(LanguageMotionConfig(objects="off"))
    assert all(r["toward"] is None for r in rows_of(batch, blind))
    assert CUP in MOTION.requires(batch.contract)
    assert CUP not in blind.requires(batch.contract)
    assert [r["code"] for r in spoken] == [r["code"] for r in rows_of(batch, blind)]


def test_an_object_that_moves_along_is_not_ahead() -> None:
    batch = sample_scripts([1], 20, truth=False)
    state = np.stack(batch.steps.column("observation.state").to_pylist())[:, :3]
    place = batch.steps.column_names.index(CUP)
    held = pa.FixedSizeListArray.from_arrays(pa.array((state + np.array([0.05, 0, 0])).astype(np.float32).reshape(-1)), 3)
    carried = Batch(batch.contract, batch.steps.set_column(place, batch.steps.field(place), held))
    assert all(r["toward"] is None for r in rows_of(carried))
