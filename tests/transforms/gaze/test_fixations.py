from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.gaze.fixations import FixationRule, centroid, find_fixations, velocity
from transforms.gaze.geometry import cpf_direction

IVT, IDT = FixationRule(), FixationRule("idt")


def looks(
    hz: float, spans: list[tuple[float, float]], jump_deg: float = 8.0, noise_deg: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rays that rest at multiples of `jump_deg` during `spans` and go there at even speed between them."""
    t = np.arange(round(spans[-1][1] * hz)) / hz
    knots = [s for span in spans for s in span]
    yaw = np.interp(t, knots, [jump_deg * i for i in range(len(spans)) for _ in (0, 1)])
    noise = np.random.default_rng(0).normal(size=(2, len(t))) * noise_deg
    return np.rint(t * 1e9).astype(np.int64), cpf_direction(np.radians(yaw + noise[0]), np.radians(noise[1]))


@pytest.mark.parametrize("rule", [IVT, IDT])
@pytest.mark.parametrize("hz", [60, 120, 200, 500])
def test_rests_are_found_where_they_are(rule: FixationRule, hz: int) -> None:
    spans = [(0.0, 0.4), (0.45, 0.7), (0.75, 1.5)]
    t_ns, rays = looks(hz, spans, noise_deg=0.03)
    number = find_fixations(t_ns, rays, np.ones(len(t_ns), bool), rule)
    assert number.max() == 2
    for at, (start, stop) in enumerate(spans):
        mine = t_ns[number == at] * 1e-9
        assert abs(mine[0] - start) < 0.035
        assert abs(mine[-1] - stop) < 0.035


def test_ten_samples_a_second_still_show_rests() -> None:
    t_ns, rays = looks(10, [(0.0, 1.0), (1.1, 2.0)], jump_deg=10)
    number = find_fixations(t_ns, rays, np.ones(len(t_ns), bool), IVT)
    assert sorted(set(number.tolist())) == [0, 1]


def test_short_rests_and_untracked_samples_are_none() -> None:
    t_ns, rays = looks(200, [(0.0, 0.3), (0.34, 0.40), (0.44, 0.8)])
    known = np.ones(len(t_ns), bool)
    number = find_fixations(t_ns, rays, known, IVT)
    assert number.max() == 1
    assert (number[(t_ns > 0.345e9) & (t_ns < 0.395e9)] == -1).all()
    known[:] = False
    assert (find_fixations(t_ns, rays, known, IVT) == -1).all()
    assert find_fixations(t_ns[:0], rays[:, :0], known[:0], IVT).tolist() == []


@pytest.mark.parametrize("rule", [IVT, IDT])
def test_a_gap_in_the_recording_ends_a_fixation(rule: FixationRule) -> None:
    t_ns, rays = looks(200, [(0.0, 1.0)])
    known = (t_ns < 400_000_000) | (t_ns > 600_000_000)
    number = find_fixations(t_ns, rays, known, rule)
    assert sorted(set(number[known].tolist())) == [0, 1]
    lost = (t_ns < 400_000_000) | (t_ns > 440_000_000)  # a blink of 40 ms is bridged
    assert set(find_fixations(t_ns, rays, lost, rule)[lost].tolist()) == {0}


def test_neighbours_are_joined_in_time_and_space_only() -> None:
    t_ns, rays = looks(200, [(0.0, 0.4), (0.43, 0.9)], jump_deg=0.0)
    rays[:, 80:86] = cpf_direction(np.radians([4.0]), np.zeros(1))  # a spike of 30 ms
    assert find_fixations(t_ns, rays, np.ones(len(t_ns), bool), IVT).max() == 0
    assert find_fixations(t_ns, rays, np.ones(len(t_ns), bool), replace(IVT, join_s=0.01)).max() == 1


@given(st.floats(1.0, 25.0), st.sampled_from([30, 120, 200]))
@settings(max_examples=30)
def test_velocity_of_an_even_turn_is_its_speed(speed: float, hz: int) -> None:
    t = np.arange(hz) / hz
    rays = cpf_direction(np.radians(speed * (t - 0.5)), np.zeros(len(t)))
    broken = np.zeros(len(t), bool)
    broken[0] = True
    assert velocity(t, rays, broken, 0.03) == pytest.approx(np.full(len(t), speed), rel=1e-6)


def test_points_of_a_picture_are_measured_in_its_width() -> None:
    t = np.arange(100) / 100
    points = np.stack([0.1 + 0.5 * t, np.zeros(100)])
    assert velocity(t, points, np.arange(100) == 0, 0.03) == pytest.approx(np.full(100, 0.5))
    rule = FixationRule(speed=1.1, join=0.01)
    assert set(find_fixations((t * 1e9).astype(np.int64), points, np.ones(100, bool), rule).tolist()) == {0}
    assert centroid(points) == pytest.approx([0.3475, 0.0])
