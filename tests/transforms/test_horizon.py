"""Looking ahead in seconds, against a search through every step."""

from itertools import pairwise

import numpy as np
import pytest

from transforms.horizon import ahead

SECOND = 1_000_000_000


def clock(hz: float, seconds: float, start: int = 0) -> np.ndarray:
    return start + np.rint(np.arange(round(hz * seconds) + 1) * SECOND / hz).astype(np.int64)


@pytest.mark.parametrize("seconds", [0.0, 0.31, 1.0, 50.0, -0.4])
def test_equals_a_search_through_every_step(seconds: float) -> None:
    rng = np.random.default_rng(0)
    clocks = [clock(20, 2), clock(7, 3, 5 * SECOND), np.cumsum(rng.integers(1, 90, 40)) * 1_000_000, np.array([9])]
    t, starts = np.concatenate(clocks), np.cumsum([0, *map(len, clocks)])
    found, valid = ahead(t, starts, seconds)
    for first, stop in pairwise(starts):
        mine = t[first:stop]
        half = np.median(np.diff(mine)) // 2 if len(mine) > 1 else 0
        for row in range(first, stop):
            wanted = t[row] + round(seconds * SECOND)
            assert abs(mine - wanted).min() == abs(t[found[row]] - wanted)
            assert first <= found[row] < stop
            assert valid[row] == (mine[0] - half <= wanted <= mine[-1] + half)
    assert ahead(t, starts, seconds, "clip")[1].all()
    assert (ahead(t, starts, seconds, "clip")[0] == found).all()


def test_the_same_instants_are_valid_at_every_rate() -> None:
    for hz in (5, 10, 20, 50):
        t = clock(hz, 4)
        found, valid = ahead(t, np.array([0, len(t)]), 0.6)
        assert t[valid].max() == pytest.approx(3.4 * SECOND, abs=SECOND / hz)
        assert np.abs(t[found[valid]] - t[valid] - 0.6 * SECOND).max() <= SECOND / hz / 2
