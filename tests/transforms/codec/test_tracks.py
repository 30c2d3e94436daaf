import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import kstest

from schemas.errors import UsageError
from transforms.codec.diffusion import mask_ratio, reveal_counts, training_masks
from transforms.codec.se3 import to_absolute, to_deltas
from transforms.codec.waypoints import WaypointCodec, rebuild, simplify


def walk(count: int, seed: int, dims: int = 3) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(count, dims)), 0) * 0.01


@pytest.mark.parametrize("tolerance", [0.005, 0.02, 0.1])
def test_waypoints_keep_every_step_within_the_tolerance(tolerance: float) -> None:
    codec, track = WaypointCodec(tolerance), walk(300, 0)
    places, values = codec.encode(track)
    back = codec.decode(places, values, len(track))
    assert np.linalg.norm(back - track, axis=1).max() <= tolerance
    assert np.array_equal(back[-1] - back[0], track[-1] - track[0])
    assert len(places) < len(track)


def test_fewer_waypoints_do_not_keep_it() -> None:
    track, times = walk(300, 0), np.arange(300.0)
    places = simplify(track, 0.02, times)
    fewer = np.delete(places, len(places) // 2)
    assert np.linalg.norm(rebuild(fewer, track[fewer], 300) - track, axis=1).max() > 0.02


def test_changes_add_up_to_the_same_displacement() -> None:
    deltas = np.diff(walk(101, 1), axis=0)
    codec = WaypointCodec(0.02)
    places, values = codec.encode_deltas(deltas)
    back = codec.decode_deltas(places, values, 100)
    assert np.abs(back.sum(0) - deltas.sum(0)).max() < 1e-6
    assert np.linalg.norm(np.cumsum(back, 0) - np.cumsum(deltas, 0), axis=1).max() <= 0.02 + 1e-12


def recursive(points: np.ndarray, tolerance: float, first: int = 0) -> set[int]:
    """The textbook's recursion, distances by vector rejection."""
    chord = points[-1] - points[0]
    share = np.clip((points - points[0]) @ chord / max(chord @ chord, 1e-300), 0, 1)
    gap = np.linalg.norm(points - points[0] - share[:, None] * chord, axis=1)
    at = int(np.argmax(gap))
    ends = {first, first + len(points) - 1}
    if gap[at] <= tolerance or len(points) < 3:
        return ends
    return recursive(points[: at + 1], tolerance, first) | recursive(points[at:], tolerance, first + at)


def test_a_line_is_simplified_as_in_the_textbook() -> None:
    for seed in range(10):
        points = walk(120, seed, 2)
        assert set(simplify(points, 0.03).tolist()) == recursive(points, 0.03)


def test_at_most_so_many_points_and_some_always() -> None:
    points = walk(100, 2)
    assert len(simplify(points, 0.0, most=5)) == 5
    assert {17, 40} <= set(simplify(points, 0.0, most=4, keep=(17, 40)).tolist())
    assert simplify(points[:1], 0.1).tolist() == [0]
    assert simplify(np.zeros((9, 2)), 0.1).tolist() == [0, 8]
    with pytest.raises(UsageError):
        WaypointCodec(0.0)


def test_pose_changes_are_exact_and_told_in_the_moving_frame() -> None:
    rng = np.random.default_rng(3)
    turns = Rotation.random(200, rng=rng)
    p, q = rng.normal(size=(3, 200)), turns.as_quat(scalar_first=True).T
    dp, dq = to_deltas(p, q)
    assert np.abs(turns[:-1].inv().apply(np.diff(p.T, axis=0)).T - dp).max() < 1e-12
    back_p, back_q = to_absolute(p[:, 0], q[:, 0], dp, dq)
    assert np.abs(back_p - p).max() < 1e-12
    assert np.abs(np.abs((back_q * q).sum(0)) - 1).max() < 1e-12
    added = p[:, :1] + np.concatenate([np.zeros((3, 1)), np.cumsum(dp, 1)], 1)
    assert np.abs(added - p).max() > 0.1  # adding them up as if the frame stood still is wrong


def test_masks_follow_the_cosine_schedule_and_come_from_seed_and_step() -> None:
    rows = [f"row-{i}" for i in range(4000)]
    masks, ratios = training_masks(7, 3, rows, 56)
    again, _ = training_masks(7, 3, rows[100:103], 56)
    assert np.array_equal(masks[100:103], again)
    assert not np.array_equal(masks, training_masks(7, 4, rows, 56)[0])
    assert not np.array_equal(masks, training_masks(8, 3, rows, 56)[0])
    # P(cos(pi u / 2) <= r) = 1 - arccos(r) 2 / pi
    assert kstest(ratios, lambda r: 1 - np.arccos(np.clip(r, 0, 1)) * 2 / np.pi).pvalue > 0.01
    assert kstest(ratios, "uniform").pvalue < 1e-6  # the twin: a linear schedule is told apart
    assert np.array_equal(masks.sum(1), np.maximum(np.ceil(ratios * 56), 1))
    share = masks.mean(0) / masks.mean()
    assert np.abs(share - 1).max() < 0.06  # no place is preferred


def test_rounds_reveal_everything_in_the_end() -> None:
    counts = reveal_counts(56, 12)
    assert (counts[0], counts[-1], len(counts)) == (1, 56, 12)
    assert (np.diff(counts) >= 0).all()
    assert float(mask_ratio(0.0)) == 1.0
    assert np.array_equal(56 - np.floor(56 * np.cos(np.pi / 2 * np.arange(1, 12) / 12)), counts[:-1])
