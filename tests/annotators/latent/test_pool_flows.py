"""Flow of a pool's pairs is found once per pair and stays what it was."""

import numpy as np
import pytest

import annotators.latent.pool as module
from annotators.latent.pool import both_flows
from tests.support.moving_square import pushes, square_pool


def test_each_pair_is_asked_once_and_gives_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    plain = both_flows
    monkeypatch.setattr(module, "both_flows", lambda a, b: asked.append(len(a)) or plain(a, b))
    pool, rows = square_pool(pushes(6, 3)), np.array([0, 3, 3, 7])
    once, again = (pool.sample(rows, flow=True) for _ in range(2))
    assert sum(asked) == 3
    there, back = plain(pool.pictures[pool.first[rows]], pool.pictures[pool.second[rows]])
    for found, true in ((once.forward, there), (once.backward, back)):
        assert found == pytest.approx(true, abs=2e-2)
    assert np.array_equal(once.forward, again.forward)  # type: ignore[arg-type]


def test_without_room_flows_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    pool = square_pool(pushes(6, 3))
    first, second = (pool.sample(np.array([1, 2]), flow=True).forward for _ in range(2))
    assert np.array_equal(first, second)  # type: ignore[arg-type]
    assert not pool.flows
