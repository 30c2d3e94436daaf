from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.clips import Clip
from annotators.traces.object_evaluation import evaluate_objects
from annotators.traces.objects import ObjectPoints, ObjectPointsConfig
from schemas.contract import Camera, Stream
from schemas.errors import UsageError
from schemas.shards import STREAMS
from tests.contracts.annotator import AnnotatorContract
from tests.support.views import filmed, framed, front, seen

POINTS = ObjectPoints()


@lru_cache
def scene(hz: int, seeds: tuple[int, ...] = (0, 1, 2, 3), masks: bool = True) -> Batch:
    """Two things: the red cup goes where the hand goes, the plate lies still. Their masks are 15 pixels square, values 7 and 9."""
    plain = filmed(hz, seeds)
    tips = np.stack(plain.steps.column("observation.state").to_pylist())[:, :3].T.astype(float)
    places = {"RedCup": tips, "plate": np.tile([[0.5], [0.1], [0.1]], (1, tips.shape[1]))}
    cameras = (front(), replace(front(), name="segmentation.front", role="segmentation", privileged=True))
    streams = tuple(Stream(f"object_pose.{n}", privileged=True) for n in places)
    contract = replace(plain.contract, cameras=cameras if masks else cameras[:1], streams=streams)
    columns = {
        "episode_id": pa.concat_arrays([plain.steps.column("episode_id").combine_chunks()] * 2),
        "stream": pa.array(np.repeat([s.name for s in streams], tips.shape[1])).dictionary_encode(),
        "t_ns": pa.array(np.tile(plain.t_ns, 2)),
        "values": pa.array(np.concatenate([p.T for p in places.values()]).tolist(), pa.list_(pa.float64())),
    }
    table = pa.table([columns.get(f.name, pa.nulls(2 * tips.shape[1], f.type)) for f in STREAMS], schema=STREAMS)
    clips = []
    for a, b in zip(plain.starts[:-1], plain.starts[1:], strict=True):
        steps = np.arange(0, b - a, hz // 5)
        pictures = np.zeros((len(steps), 256, 256), np.uint8)
        for value, place in ((9, places["plate"]), (7, places["RedCup"])):
            for at, (u, v) in enumerate(np.rint(seen(place[:, a:b])[:, steps]).astype(int).T):
                pictures[at, max(v - 7, 0) : v + 8, max(u - 7, 0) : u + 8] = value
        have = np.full(b - a, -1)
        have[steps] = np.arange(len(steps))
        clips.append(Clip(pictures, plain.t_ns[a:b][steps], steps, have, (256, 256)))
    return Batch(contract, framed(plain.steps, contract), {"segmentation.front": tuple(clips)} if masks else {}, table)


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return POINTS

    @pytest.fixture
    def changed(self) -> Any:
        return ObjectPoints(ObjectPointsConfig(every_s=0.4))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: scene(hz, masks=False) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = scene(20)
        assert whole.streams is not None
        first = whole.streams.column("episode_id").cast(pa.string()).to_numpy() == whole.episodes[0]
        return replace(whole, streams=whole.streams.filter(pa.array(~first)))


def rows(batch: Batch, annotator: ObjectPoints = POINTS) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def test_boxes_have_the_names_of_their_objects() -> None:
    batch = scene(20, (0,))
    found = [r for r in rows(batch) if r["kind"] == "box"]
    assert {r["label"] for r in found} == {"red cup", "plate"}
    for row in found:
        picture = batch.clips["segmentation.front"][0].pictures[batch.clips["segmentation.front"][0].seen[row["start_step"]]]
        v, u = np.nonzero(picture == {"red cup": 7, "plate": 9}[row["label"]])
        assert np.array(row["coords"]) * 256 == pytest.approx([u.min(), v.min(), u.max() + 1, v.max() + 1])
        assert row["source"] == "segmentation"


def test_points_come_from_poses_where_there_are_no_masks() -> None:
    batch = scene(20, (0,), masks=False)
    plate = seen(np.array([[0.5], [0.1], [0.1]]))[:, 0]
    told = [r for r in rows(batch) if r["kind"] == "point" and r["label"] == "plate"]
    assert len(told) == 9
    assert all(np.array(r["coords"]) * 256 - 0.5 == pytest.approx(plate, abs=1e-3) and r["source"] == "pose" for r in told)
    assert not [r for r in rows(batch) if r["kind"] == "box"]


def test_contact_is_where_the_hand_will_close_and_placement_where_it_will_open() -> None:
    from annotators.traces.hand import grip_events

    batch = scene(20)
    checked = 0
    for at, episode in enumerate(batch.episodes):
        a, b = batch.starts[at], batch.starts[at + 1]
        state = np.stack(batch.steps.column("observation.state").to_pylist())[a:b].astype(float)
        events = grip_events(state[:, 7])
        for row in (r for r in rows(batch) if r["episode_id"] == episode and r["kind"] in ("contact", "placement")):
            sign = -1 if row["kind"] == "contact" else 1
            step = next(i for i in np.flatnonzero(events == sign) if i > row["start_step"])
            want = (seen(state[step : step + 1, :3].T)[:, 0] + 0.5) / 256
            assert row["coords"] == pytest.approx(np.clip(want, 0, 1), abs=1e-4)
            checked += 1
    assert checked > 5


def test_points_of_another_time_fail_the_gate() -> None:
    batch = scene(20, tuple(range(12)))
    honest = {r.metric: r for r in evaluate_objects(POINTS.seen(batch), batch, POINTS.config.tip_m)}
    assert honest["point_in_mask"].gate == "pass"
    assert honest["contact_near_object"].gate == "pass"  # the cup is always in the hand
    twin = {r.metric: r for r in evaluate_objects(POINTS.seen(batch), batch, POINTS.config.tip_m, delay_s=1.0)}
    assert twin["point_in_mask"].gate == "fail"


def test_where_no_object_is_known_nothing_is_said() -> None:
    batch = scene(20, (0,))
    nameless = replace(batch, contract=replace(batch.contract, streams=()))
    assert {r["reason"] for r in rows(nameless)} == {"no_objects"}
    blind = replace(batch.contract, cameras=(Camera("front", width=256, height=256),))
    assert {r["reason"] for r in rows(replace(batch, contract=blind))} == {"no_calibration"}
    assert {r.gate for r in POINTS.evaluate(nameless)} == {"not-measurable"}
    with pytest.raises(UsageError):
        ObjectPointsConfig(every_s=0.0)
