"""Clips: parts without copies, intrinsics at another size, stacking by bucket, and what a batch does with them."""

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch, episodes_id
from annotators.clips import Clip, Look, Needs, bucket, needs_of, no_clip, stack
from schemas.contract import Camera
from schemas.errors import ContractError, UsageError
from schemas.shards import STREAMS
from tests.support.motion import make_trajectory, sample


def clip(pictures: int = 10, per_step: int = 2, size: tuple[int, int] = (4, 6)) -> Clip:
    images = np.arange(pictures, dtype=np.uint8)[:, None, None, None] * np.ones((1, *size, 3), np.uint8)
    step = np.arange(pictures) // per_step
    seen = np.arange(0, pictures, per_step)
    return Clip(images, np.arange(pictures) * 10, step, seen, (8, 12))


def test_a_part_is_numbered_as_if_it_were_an_episode() -> None:
    part = clip().part(1, 3)
    assert part.pictures[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert part.pictures.base is not None
    assert part.step.tolist() == [0, 0, 1, 1]
    assert part.seen.tolist() == [0, 2]
    assert part.t_ns.tolist() == [20, 30, 40, 50]
    assert len(no_clip(3).part(0, 2)) == 0


def test_intrinsics_follow_the_pixels() -> None:
    camera = Camera("front", width=12, height=8, intrinsics=(10.0, 0, 5.5, 0, 10.0, 3.5, 0, 0, 1))
    matrix = clip().intrinsics(camera)
    assert matrix is not None
    ray = np.array([0.2, -0.1, 1.0])
    stored = np.array(camera.intrinsics).reshape(3, 3) @ ray
    assert (matrix @ ray)[:2] + 0.5 == pytest.approx((stored[:2] + 0.5) / 2)  # the same point, its left upper corner at zero
    assert clip().intrinsics(Camera("front")) is None


def test_stacking_pads_to_a_bucket() -> None:
    assert [bucket(n) for n in (1, 8, 9, 1024, 1025, 3000)] == [8, 8, 16, 1024, 2048, 3072]
    stacked, mask = stack([clip(10), clip(4), no_clip(2)])
    assert stacked.shape == (3, 16, 4, 6, 3)
    assert mask.sum(1).tolist() == [10, 4, 0]
    assert stacked[1, :4, 0, 0, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="different sizes"):
        stack([clip(), clip(size=(5, 5))])


def test_a_look_that_shows_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no picture"):
        Look("front", (0, 3))
    with pytest.raises(UsageError, match="positive rate"):
        Look("front", hz=0.0)
    assert needs_of(object(), sample([make_trajectory(0, 1.0)], 5).contract) == Needs()


def test_a_batch_keeps_clips_signals_and_groups_beside_their_episodes() -> None:
    batch = sample([make_trajectory(s, 1.0) for s in range(3)], 5)
    rows = [{"episode_id": e, "stream": s, "t_ns": n} for e in batch.episodes for s in ("gaze", "imu") for n in range(3)]
    whole = Batch(
        batch.contract, batch.steps, {"front": tuple(clip(n) for n in (2, 4, 6))},
        pa.Table.from_pylist(rows, schema=STREAMS), ("kitchen", "kitchen", "hall"),
    )  # fmt: skip
    two = whole.take([2, 0])
    assert [len(c) for c in two.clips["front"]] == [6, 2]
    assert two.groups == ("hall", "kitchen")
    assert two.stream(batch.episodes[2], "gaze")["t_ns"].to_pylist() == [0, 1, 2]
    assert two.stream(batch.episodes[1], "gaze").num_rows == 0
    with pytest.raises(UsageError, match="not asked for"):
        batch.stream(batch.episodes[0], "gaze")
    with pytest.raises(ContractError, match="no camera 'front'"):
        batch.camera("front")


def test_parts_are_halves_by_group_and_stay_what_they_are() -> None:
    batch = sample([make_trajectory(s, 1.0) for s in range(12)], 5)
    val, test = batch.part("val"), batch.part("test")
    assert {*val.episodes, *test.episodes} == set(batch.episodes)
    assert not {*val.episodes} & {*test.episodes}
    assert 2 <= len(test.episodes) <= 10
    fewer = batch.take([0, 3, 4, 7])
    assert set(fewer.part("test").episodes) == set(test.episodes) & set(fewer.episodes)
    grouped = Batch(batch.contract, batch.steps, groups=("kitchen",) * 12)
    assert sorted(len(grouped.part(p).episodes) for p in ("val", "test")) == [0, 12]
    assert episodes_id(("b", "a")) == episodes_id(("a", "b")) != episodes_id(("a",))
