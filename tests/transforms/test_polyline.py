import numpy as np
import pytest

from transforms.polyline import choose_points, dynamic_time_warping

TIMES = np.arange(101.0) / 20
# waits for 2.5 s, then a right angle at constant speed
TRACK = np.concatenate(
    [np.zeros((51, 2)), np.stack([np.arange(1, 26), np.zeros(25)], 1), np.stack([np.full(25, 25), np.arange(1, 26)], 1)]
)


def test_points_are_even_in_time_or_along_the_line_or_where_it_bends() -> None:
    assert choose_points(TRACK, TIMES, "uniform_time", 5, (), 0).tolist() == [0, 25, 50, 75, 100]
    along = choose_points(TRACK, TIMES, "arc_length", 3, (), 0)
    assert TRACK[along].tolist() == [[0, 0], [25, 0], [25, 25]]
    assert TRACK[choose_points(TRACK, TIMES, "rdp", 5, (), 0.5)].tolist() == [[0, 0], [25, 0], [25, 25]]


@pytest.mark.parametrize("how", ["uniform_time", "arc_length", "rdp"])
def test_events_stay_and_the_number_is_kept(how: str) -> None:
    chosen = choose_points(TRACK, TIMES, how, 5, (33, 62), 0.0)  # type: ignore[arg-type]
    assert {0, 33, 62, 100} <= set(chosen.tolist())
    assert len(chosen) <= 5
    crowded = choose_points(TRACK, TIMES, how, 4, (10, 20, 30, 40, 50), 0.0)  # type: ignore[arg-type]
    assert crowded.tolist() == [0, 10, 20, 100]
    assert choose_points(TRACK[:1], TIMES[:1], how, 5, (), 0.1).tolist() == [0]  # type: ignore[arg-type]
    assert choose_points(TRACK[:9], TIMES[:9], how, 5, (4,), 0.1)[[0, -1]].tolist() == [0, 8]  # type: ignore[arg-type]


def test_warping_forgives_time_and_nothing_else() -> None:
    curve = np.stack([np.linspace(0, 1, 60), np.sin(np.linspace(0, 3, 60))], 1)
    late = curve[np.sort(np.random.default_rng(0).integers(0, 60, 90))]
    assert dynamic_time_warping(curve, curve) == 0
    assert dynamic_time_warping(curve, late) < 0.02
    assert dynamic_time_warping(curve, curve + 0.5) > 0.3
    brute = {(0, 0): 0.0}
    a, b = curve[::12], late[::15] + 0.1
    gap = np.linalg.norm(a[:, None] - b[None], axis=2)
    for i in range(len(a)):
        for j in range(len(b)):
            before = [brute[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in brute]
            brute[i, j] = gap[i, j] + (min(before) if before and (i, j) != (0, 0) else 0.0)
    total = brute[len(a) - 1, len(b) - 1]
    assert max(len(a), len(b)) <= total / dynamic_time_warping(a, b) <= len(a) + len(b)
