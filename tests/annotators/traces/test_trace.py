import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.traces.hand import grip_events
from annotators.traces.trace import Trace, TraceConfig
from pipelines.exporters.lerobot.language import atoms_for
from pipelines.exporters.lerobot.plan import language_style_column
from schemas.annotation import LanguageRow
from schemas.contract import Camera, Feature
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.motion import arm_contract
from tests.support.views import filmed, front, outside, seen

EPISODE = Trace(TraceConfig(until="episode"))


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return EPISODE

    @pytest.fixture
    def changed(self) -> Any:
        return Trace(TraceConfig(until="episode", sampling="arc_length", tip_m=(0.0, 0.0, 0.1)))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: filmed(hz) for hz in (10, 20, 50)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        return without_first(filmed(20))


class TestSubtaskContract(TestContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return Trace()


class TestFoundCameraContract(TestContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return Trace(TraceConfig(until="episode", how="dlt"))


def without_first(batch: Batch) -> Batch:
    state = np.stack(batch.steps.column("observation.state").to_pylist())
    state[: batch.starts[1], 0] = np.nan
    place = batch.steps.column_names.index("observation.state")
    column = pa.FixedSizeListArray.from_arrays(pa.array(state.reshape(-1), pa.float32()), 8)
    return replace(batch, steps=batch.steps.set_column(place, batch.steps.schema.field(place), column))


def rows(annotator: Trace, batch: Batch) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def state_of(batch: Batch) -> np.ndarray:
    return np.stack(batch.steps.column("observation.state").to_pylist()).astype(float)


def test_a_trace_begins_at_the_hand_and_ends_where_the_episode_does() -> None:
    batch = filmed(20, (0,))
    pixels = np.clip(np.rint(255 * seen(state_of(batch)[:, :3].T) / 256), 0, 255)
    told = [r for r in rows(EPISODE, batch) if r["valid"]]
    for row in told:
        points = np.array(row["trace"]).reshape(-1, 2)
        assert points[0].tolist() == pixels[:, row["start_step"]].tolist()
        assert points[-1].tolist() == pixels[:, -1].tolist()
        assert row["n_pts"] == len(points) <= 5
        assert row["how"] == "calibrated"
        assert row["rmse_px"] is None
        assert all((points[i] == pixels.T).all(1).any() for i in range(len(points)))
    assert len(told) == 8
    assert [r["reason"] for r in rows(EPISODE, batch) if not r["valid"]] == ["horizon_past_end"]


def test_the_text_is_json_for_lerobots_event_column() -> None:
    row = next(r for r in rows(EPISODE, filmed(20)) if r["valid"] and any(r["grip_event"]))
    body = json.loads(row["text"])
    assert np.array(body["points"]).reshape(-1).tolist() == row["trace"]
    assert {(e["point"], e["event"]) for e in body["gripper"]} == {
        (i, "close" if g < 0 else "open") for i, g in enumerate(row["grip_event"]) if g
    }
    assert language_style_column(row["style"]) == "language_events"
    assert row["camera"] == "front"
    atom = atoms_for(
        "language_events",
        (),
        [LanguageRow(row["style"], row["text"], row["start_ns"], row["camera"])],
        filmed(20).t_ns[:81],
        20,
        {"front": "observation.images.front"},
    )
    assert [(a.first, a.stop) for a in atom] == [(row["start_step"], row["start_step"] + 1)]
    assert atom[0].body["camera"] == "observation.images.front"
    assert json.loads(atom[0].body["content"]) == body


def test_gripper_events_are_always_among_the_points() -> None:
    batch = filmed(20)
    for at, episode in enumerate(batch.episodes):
        events = np.flatnonzero(grip_events(state_of(batch)[batch.starts[at] : batch.starts[at + 1], 7]))
        first = next(r for r in rows(EPISODE, batch) if r["episode_id"] == episode)
        assert sum(bool(g) for g in first["grip_event"]) == min(len([e for e in events if e]), 3)


def test_events_are_where_the_gripper_passes_the_middle() -> None:
    up, down = np.linspace(0, 1, 20), np.linspace(1, 0, 20)
    event = grip_events(np.concatenate([down, up, np.full(5, 1.0)]))
    assert np.flatnonzero(event).tolist() == [12, 32]
    assert event[[12, 32]].tolist() == [-1, 1]
    noisy = 0.5 + 0.04 * np.sin(np.arange(200))
    assert not grip_events(noisy).any()  # does not move enough
    assert not grip_events(np.concatenate([np.zeros(50), noisy, [1.0]]))[:-1].any()  # stays within the band
    assert not grip_events(np.full(9, np.nan)).any()


def test_points_outside_the_picture_are_clipped_and_flagged() -> None:
    batch = filmed(20, (0,))
    narrow = replace(front(), intrinsics=(1200.0, 0.0, 127.5, 0.0, 1200.0, 127.5, 0.0, 0.0, 1.0))
    batch = filmed(20)
    found = rows(EPISODE, replace(batch, contract=replace(batch.contract, cameras=(narrow,))))
    hidden = [(r, i) for r in found if r["valid"] for i in range(r["n_pts"]) if not r["visible"] >> i & 1]
    assert hidden
    assert all(0 in r["trace"][2 * i : 2 * i + 2] or 255 in r["trace"][2 * i : 2 * i + 2] for r, i in hidden)
    turned = outside()
    turned[:3, :3] = turned[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    behind = replace(front(), extrinsics=tuple(turned.reshape(-1)))
    found = rows(EPISODE, replace(batch, contract=replace(batch.contract, cameras=(behind,))))
    assert {r["reason"] for r in found} == {"behind_camera", "horizon_past_end"}


def test_without_calibration_the_camera_is_found_from_pairs_or_refused() -> None:
    told = [r for r in rows(EPISODE, filmed(20, calibration=False, noise_px=0.5)) if r["valid"]]
    known = [r for r in rows(EPISODE, filmed(20)) if r["valid"]]
    assert {r["how"] for r in told} == {"dlt"}
    assert all(0.2 < r["rmse_px"] < 1.0 for r in told)
    assert {r["waypoint_frame"] for r in told} == {"base"}
    ends = [np.abs(np.array(a["trace"][:2], int) - b["trace"][:2]).max() for a, b in zip(told, known, strict=True)]
    assert max(ends) <= 2
    assert {r["reason"] for r in rows(EPISODE, filmed(20, calibration=False, pixels=False))} == {"no_calibration"}
    wild = filmed(20, calibration=False, noise_px=80.0)
    assert {r["reason"] for r in rows(EPISODE, wild)} <= {"degenerate_motion", "reprojection_error"}
    few = filmed(5, (0,), 2.0, calibration=False)
    assert {r["reason"] for r in rows(EPISODE, few)} == {"too_few_pairs"}


def test_recorded_pixels_are_taken_as_they_are() -> None:
    batch = filmed(20, (0,))
    told = rows(Trace(TraceConfig(until="episode", how="recorded")), batch)
    assert [r["trace"] for r in told] == [r["trace"] for r in rows(EPISODE, batch)]
    assert {r["how"] for r in told if r["valid"]} == {"recorded"}


def test_a_subtask_ends_a_trace_before_the_episode_does() -> None:
    batch = filmed(20)
    short = [r["waypoint_s"][-1] for r in rows(Trace(), batch) if r["valid"]]
    long = [r["waypoint_s"][-1] for r in rows(EPISODE, batch) if r["valid"]]
    assert np.mean(short) < 0.7 * np.mean(long)
    assert min(short) >= 0.25 - 1e-6


def test_waypoints_are_poses_in_the_cameras_axes() -> None:
    from scipy.spatial.transform import Rotation

    batch = filmed(20, (0,))
    state, row = state_of(batch), rows(EPISODE, batch)[0]
    told = np.array(row["waypoints"]).reshape(-1, 8)
    steps = np.rint(np.array(row["waypoint_s"]) * 20).astype(int)
    world = np.linalg.inv(outside())
    assert row["waypoint_frame"] == "camera"
    assert np.abs(told[:, :3] - (state[steps, :3] @ world[:3, :3].T + world[:3, 3])).max() < 1e-5
    want = Rotation.from_matrix(world[:3, :3]) * Rotation.from_quat(state[steps, 3:7], scalar_first=True)
    assert (want.inv() * Rotation.from_quat(told[:, 3:7], scalar_first=True)).magnitude().max() < 1e-3
    assert np.abs(told[:, 7] - state[steps, 7]).max() < 1e-6
    assert 2 <= len(told) <= 8
    fine = rows(Trace(TraceConfig(until="episode", waypoints=40, waypoint_m=0.001)), batch)[0]
    assert fine["waypoint_rmse_m"] < row["waypoint_rmse_m"] < 0.05
    assert fine["waypoint_max_m"] <= 0.001 * 2
    assert {row["waypoint_curve"], fine["waypoint_curve"]} <= {"linear", "spline"}


def test_a_tip_beyond_the_wrist_is_turned_with_it() -> None:
    batch = filmed(20, (0,))
    away = rows(Trace(TraceConfig(until="episode", tip_m=(0.0, 0.0, 0.2))), batch)
    from scipy.spatial.transform import Rotation

    state = state_of(batch)[0]
    tip = state[:3] + Rotation.from_quat(state[3:7], scalar_first=True).apply([0.0, 0.0, 0.2])
    assert away[0]["trace"][:2] == np.clip(np.rint(255 * seen(tip[:, None])[:, 0] / 256), 0, 255).tolist()


def test_what_no_camera_or_hand_allows_is_refused() -> None:
    batch = filmed(20, (0,))
    wrist = replace(front(), role="depth")
    sizeless = Camera("front", intrinsics=front().intrinsics, extrinsics=front().extrinsics)
    joints = replace(arm_contract(20), features=(Feature("observation.state", "float32", (8,), role="state"),))
    for contract, reason in (
        (replace(batch.contract, cameras=(wrist,)), "no_camera"),
        (replace(batch.contract, cameras=(sizeless,)), "no_picture_size"),
        (replace(joints, cameras=(front(),)), "no_end_effector"),
    ):
        found = replace(batch, contract=contract)
        assert {r["reason"] for r in rows(EPISODE, found)} == {reason}
        assert EPISODE.requires(contract) == ()
    assert {r["reason"] for r in rows(Trace(TraceConfig(camera="side")), batch)} == {"no_camera"}
    for bad in ({"points": 1}, {"every_s": 0.0}, {"tolerance": -1.0}, {"waypoints": 1}):
        with pytest.raises(UsageError):
            TraceConfig(**bad)  # type: ignore[arg-type]
