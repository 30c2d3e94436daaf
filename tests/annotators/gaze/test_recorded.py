"""Recorded gaze against a world that is known at every instant, and against the clocks of real recordings, read without our code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.gaze.config import GazeConfig
from annotators.gaze.recorded import RecordedGaze
from annotators.gaze.samples import read_samples
from annotators.gaze.source import find_gaze
from schemas.contract import Camera, Contract, Stream
from schemas.errors import UsageError
from schemas.shards import STREAMS, steps_schema
from tests.contracts.annotator import AnnotatorContract
from tests.support.gaze import Ego, batch_of_draft, gaze_of, lens_of, plan_of, seen_by, turns, wearer, with_gaze

GAZE = RecordedGaze()
SHORT = Ego(seconds=3.0)


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return GAZE

    @pytest.fixture
    def changed(self) -> Any:
        return RecordedGaze(GazeConfig(events="idt", device_cpf=tuple(np.eye(4).ravel().tolist())))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: wearer((0, 1, 2), hz, SHORT) for hz in (10, 15, 30)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = wearer((0, 1, 2), 15, SHORT)
        assert whole.streams is not None
        lost = pa.compute.equal(whole.streams.column("episode_id").cast(pa.string()), whole.episodes[0])
        return replace(whole, streams=whole.streams.filter(pa.compute.invert(lost)))


def rows(batch: Batch, **settings: Any) -> list[dict[str, Any]]:
    annotator = RecordedGaze(GazeConfig(**settings))
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def told(t_ns: Any, values: Any, names: tuple[str, ...], camera: Camera | None = None, hz: float = 30.0, **other: Any) -> Batch:
    """One episode with gaze as given; `other` may hold further streams as (names, t_ns, values, end_ns) and `text` per gaze sample."""
    text, steps = other.pop("text", [None] * len(t_ns)), np.arange(round(hz)) / hz
    streams = (Stream("gaze", names), *(Stream(n, v[0]) for n, v in other.items()))
    contract = Contract("told", "human", "person", hz, cameras=(camera,) if camera else (), streams=streams)
    parts = [("gaze", t_ns, values, [None] * len(t_ns), text)]
    parts += [(n, t, v, e, [None] * len(t)) for n, (_, t, v, e) in other.items()]
    table = pa.table({
        "episode_id": pa.array(["e"] * sum(len(p[1]) for p in parts)).dictionary_encode(),
        "stream": pa.array([p[0] for p in parts for _ in p[1]]).dictionary_encode(),
        "t_ns": pa.array([int(t) for p in parts for t in p[1]], pa.int64()),
        "end_ns": pa.array([e for p in parts for e in p[3]], pa.int64()),
        "values": pa.array([list(map(float, v)) for p in parts for v in p[2]], pa.list_(pa.float64())),
        "text": pa.array([x for p in parts for x in p[4]], pa.string()),
    }, schema=STREAMS)  # fmt: skip
    have: dict[str, Any] = {
        "episode_id": pa.array(["e"] * len(steps)).dictionary_encode(), "step": pa.array(np.arange(len(steps)), pa.int32()),
        "t_ns": pa.array(np.rint(steps * 1e9).astype(np.int64)), "is_first": pa.array(np.arange(len(steps)) == 0),
        "is_last": pa.array(np.arange(len(steps)) == len(steps) - 1), "is_terminal": pa.array(np.zeros(len(steps), bool)),
    }  # fmt: skip
    if camera:
        have[f"frame.{camera.name}"] = pa.array(np.arange(len(steps)), pa.int32())
    schema = steps_schema(contract)
    return Batch(
        contract, pa.table([have.get(f.name, pa.nulls(len(steps), f.type)) for f in schema], schema=schema), streams=table
    )


@pytest.mark.parametrize("lens", ["pinhole", "opencv", "fisheye624"])
def test_gaze_lies_on_what_was_looked_at(lens: Any) -> None:
    ego = Ego(seconds=3.0, lens=lens, jitter_deg=0.0)
    batch = wearer((0,), 15, ego)
    t = batch.t_ns * 1e-9
    plan, turn = plan_of(ego, 0), turns(ego, 0, t)
    world = gaze_of(plan, t)
    want = (seen_by(lens_of(ego), turn, world).T + 0.5) / [64, 48]
    looked = rows(batch)
    assert np.abs(np.array([r["xy"] for r in looked]) - want).max() * 64 < 0.1  # pixels
    rays = np.einsum("tji,jt->ti", turn, world)
    assert np.abs(np.array([r["ray"] for r in looked]) - rays).max() < 1e-5
    assert {(r["ray_frame"], r["how"], r["source"]) for r in looked} == {("camera", "pixels", "recorded")}


def test_fixations_are_the_visits_and_saccades_lie_between() -> None:
    ego = Ego()
    batch, plan = wearer((0,), 15, ego), plan_of(ego, 0)
    t = batch.t_ns * 1e-9
    visit = np.searchsorted(plan.times, t, side="right") - 1
    number = np.array([-1 if r["fix_id"] is None else r["fix_id"] for r in rows(batch)])
    moves = plan.times[1:][:, None] - t[None]
    assert (number >= 0).mean() > 0.85
    assert not ((number >= 0) & ((moves > 0.005) & (moves < 0.03)).any(0)).any()  # on the way
    for one in set(number[number >= 0].tolist()):
        assert len(set(visit[number == one].tolist())) == 1  # no fixation spans two visits


def test_clock_and_axes_pass_their_gates_and_every_twin_fails_one() -> None:
    batch = wearer()
    width, height = 64, 48
    reports = {r.metric: r for r in GAZE.evaluate(batch)}
    assert {m: r.gate for m, r in reports.items()} == dict.fromkeys(reports, "pass")
    assert reports["gaze_coverage"].value == 1.0
    twins: dict[str, Any] = {
        "flipped": lambda v, t: (np.stack([v[:, 0], height - 1 - v[:, 1]], 1), t),
        "turned": lambda v, t: (np.stack([(height - 1 - v[:, 1]) * width / height, v[:, 0] * height / width], 1), t),
        "late": lambda v, t: (v, t + 150_000_000),
        "shuffled": lambda v, t: (np.roll(v, len(v) // 3, 0), t),
    }
    for name, change in twins.items():
        found = {r.metric: r.gate for r in GAZE.evaluate(with_gaze(batch, change))}
        assert "fail" in (found["gaze_lag_ms"], found["gaze_rides_on_picture"]), name


def test_what_cannot_be_known_is_said() -> None:
    lens = Camera("scene", role="ego", width=100, height=50)
    t = np.arange(0, 1_000_000_000, 10_000_000)
    middle = np.tile([50.0, 25.0], (100, 1))
    middle[30:40] = np.nan
    batch = told(t[10:], middle[10:], ("x", "y"), lens)
    reasons = [r["reason"] for r in rows(batch)]
    assert reasons[:2] == ["no_sample"] * 2
    assert reasons[10:12] == ["untracked"] * 2
    assert {r["reason"] for r in rows(batch) if r["ray"]} == set()  # nobody stated the lens
    place = batch.steps.column_names.index("frame.scene")
    blind = batch.steps.set_column(place, batch.steps.schema.field(place), pa.array([-1] * 30, pa.int32()))
    assert {r["reason"] for r in rows(replace(batch, steps=blind))} == {"no_picture"}
    for contract, reason in (
        (replace(batch.contract, streams=()), "no_gaze"),
        (replace(batch.contract, streams=(Stream("gaze", ("a", "b")),)), "gaze_unreadable"),
        (replace(batch.contract, cameras=(replace(lens, width=0),)), "no_picture_size"),
        (replace(batch.contract, streams=(Stream("gaze_left", ("x", "y")),)), "no_gaze"),
    ):
        assert {r["reason"] for r in rows(replace(batch, contract=contract))} == {reason}


def test_out_of_the_picture_is_a_type_of_its_own() -> None:
    lens = Camera("scene", role="ego", width=100, height=50)
    t = np.arange(0, 1_000_000_000, 10_000_000)
    looked = rows(told(t, np.tile([130.0, 25.0], (100, 1)), ("x", "y"), lens))
    assert {(r["type"], r["xy"][0]) for r in looked} == {(2, 1.0)}


def test_confidence_wearing_and_blinks_decide_what_counts() -> None:
    lens = Camera("scene", role="ego", width=100, height=50)
    t = np.arange(0, 1_000_000_000, 10_000_000)
    sure = np.where(t < 200_000_000, 0.3, 0.9)
    values = np.column_stack([np.full(100, 0.5), np.full(100, 0.75), sure])
    batch = told(
        t, values, ("norm_pos_x", "norm_pos_y", "confidence"), lens, worn=(("worn",), t, np.where(t < 700_000_000, 255, 0)[:, None], [None] * 100),
        blinks=((), [400_000_000], [[]], [500_000_000]),
    )  # fmt: skip
    looked = rows(batch)
    valid = np.array([r["valid"] for r in looked])
    at = np.arange(30) / 30
    assert valid.tolist() == ((at >= 0.195) & ~((at > 0.399) & (at < 0.499)) & (at < 0.699)).tolist()
    good = next(r for r in looked if r["valid"])
    assert good["xy"] == pytest.approx([0.5, 0.25])  # counted from the lower left by the device
    assert good["confidence"] == pytest.approx(0.9)


@pytest.mark.parametrize("by", ["text", "spans", "neon"])
def test_a_devices_own_fixations_are_taken(by: str) -> None:
    lens = Camera("scene", role="ego", width=100, height=50)
    t = np.arange(0, 1_000_000_000, 10_000_000)
    middle = np.tile([50.0, 25.0], (100, 1))
    if by == "text":
        events = ["Fixation" if x < 300_000_000 or x >= 500_000_000 else "Saccade" for x in t]
        batch = told(t, middle, ("x", "y"), lens, text=events)
    elif by == "spans":
        batch = told(t, middle, ("x", "y"), lens, fixations=((), [0, 500_000_000], [[], []], [300_000_000, 1_000_000_000]))
    else:
        spans = (("is_fixation",), [0, 300_000_000, 500_000_000], [[1], [0], [1]], [300_000_000, 500_000_000, 1_000_000_000])
        batch = told(t, middle, ("x", "y"), lens, fixations=spans)
    number = [r["fix_id"] for r in rows(batch)]
    assert [number[0], number[8], number[12], number[20]] == [0, 0, None, 1]
    assert rows(batch)[12]["type"] == 1
    assert {r["fix_id"] for r in rows(batch, events="ivt")} == {0}


def test_angles_are_placed_through_a_lens_only_where_frame_and_lens_are_known() -> None:
    """A camera 6 cm right of the eyes: the same direction lands elsewhere for another distance."""
    t = np.arange(0, 1_000_000_000, 100_000_000)
    device_cpf = np.eye(4)
    device_camera = np.diag([-1.0, -1.0, 1.0, 1.0])  # x left, y up becomes x right, y down
    device_camera[0, 3] = -0.06
    lens = Camera(
        "rgb", role="ego", width=200, height=200, intrinsics=(100.0, 0, 99.5, 0, 100.0, 99.5, 0, 0, 1), projection="pinhole",
        extrinsics=tuple(device_camera.ravel().tolist()),
    )  # fmt: skip
    names = (
        "yaw_rads_cpf",
        "pitch_rads_cpf",
        "depth_m",
        "yaw_low_rads_cpf",
        "yaw_high_rads_cpf",
        "pitch_low_rads_cpf",
        "pitch_high_rads_cpf",
    )
    low, high = -np.radians(1.959964), np.radians(1.959964)
    ahead = np.tile([0.0, 0.0, 0.5, low, high, low, high], (10, 1))
    ahead[5:, 2] = np.nan
    batch = told(t, ahead, names, lens)
    looked = rows(batch, device_cpf=tuple(device_cpf.ravel().tolist()))
    near, far = looked[0], looked[24]
    assert near["xy"] == pytest.approx([0.5 - 0.06 / 0.5 * 100 / 200, 0.5], abs=1e-6)
    assert far["xy"] == pytest.approx([0.5 - 0.06 / 1.0 * 100 / 200, 0.5], abs=1e-6)
    assert [(r["depth"], r["depth_assumed"], r["how"]) for r in (near, far)] == [
        (0.5, False, "projected"),
        (1.0, True, "projected"),
    ]
    assert near["sigma_deg"] == pytest.approx(1.0)
    unplaced = rows(batch)
    assert {(r["valid"], r["xy"], r["how"], r["ray_frame"]) for r in map(_flat, unplaced[:29])} == {
        (True, None, "direction", "cpf")
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"xy": None if row["xy"] is None else tuple(row["xy"])}


def test_neon_is_aligned_within_one_picture_by_its_own_clocks(data: Path) -> None:
    """The clocks are read with numpy, from the files the device wrote."""
    from pipelines.sources.gaze import NeonSource
    from tests.pipelines.sources.gaze_files import options, read

    folder = data / "gaze" / "neon_part1"
    source = NeonSource(str(folder), options())
    (draft,), _ = read(source)
    batch = batch_of_draft(source, draft)
    looked = rows(batch)
    frames = np.fromfile(folder / "Neon Scene Camera v1 ps1.time", "<i8")
    at, points = np.fromfile(folder / "gaze ps1.time", "<i8"), np.fromfile(folder / "gaze ps1.raw", "<f4").reshape(-1, 2)
    valid = np.array([r["valid"] for r in looked])
    nearest = np.abs(at[None] - frames[:, None]).argmin(1)
    away = np.abs(at[nearest] - frames)
    period = np.median(np.diff(frames))
    assert (away[valid] <= period).all()  # within one picture
    assert not valid[away > period].any()
    assert valid.sum() == 112
    want = (points[nearest] + 0.5) / [1600, 1200]
    assert np.abs(np.array([r["xy"] for r in looked if r["valid"]]) - want[valid]).max() < 1e-6
    assert np.abs([r["offset_ms"] for r in looked if r["valid"]] - (at[nearest] - frames)[valid] * 1e-6).max() < 1e-4


def test_settings_that_make_no_sense_are_refused() -> None:
    for bad in ({"within_s": 0}, {"least_confidence": 2.0}, {"device_cpf": (1.0, 2.0)}, {"events": "none"}):
        with pytest.raises(UsageError):
            RecordedGaze.from_settings(bad)


def test_parted_eyes_do_not_lend_their_distance(data: Path) -> None:
    """MPS states the distance of the point behind the head where the eyes part: most of this recording."""
    from pipelines.sources.gaze import AriaSource
    from tests.pipelines.sources.gaze_files import options, read

    source = AriaSource(str(data / "gaze" / "aria_gen1_mps" / "eye_gaze_vergence"), options())
    drafts, _ = read(source)
    batch = batch_of_draft(source, drafts[0])
    found = find_gaze(batch.contract, GazeConfig())
    assert not isinstance(found, str)
    samples = read_samples(batch, 0, found, GazeConfig())
    table = np.genfromtxt(
        data / "gaze/aria_gen1_mps/eye_gaze_vergence/generalized_gaze.csv", delimiter=",", names=True, usecols=range(5)
    )
    parts = np.tan(table["right_yaw_rads_cpf"]) < np.tan(table["left_yaw_rads_cpf"])
    assert parts.sum() == 117
    assert samples.assumed[parts].all()
    assert (samples.depth[parts] == 1.0).all()
    assert samples.depth[~parts] == pytest.approx(table["depth_m"][~parts])
