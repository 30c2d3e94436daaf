"""Flow of a pool's pairs is found once per pair and stays what it was."""

import numpy as np
import pytest

import annotators.latent.pool as module
from tests.support.moving_square import pushes, square_pool


def test_each_pair_is_asked_once_and_gives_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, plain = list[bool](), module.flows

    def counted(first: np.ndarray, second: np.ndarray, *, both: bool) -> np.ndarray:
        asked.append(both)
        return plain(first, second, both=both)

    monkeypatch.setattr(module, "flows", counted)
    pool, rows = square_pool(pushes(6, 3)), np.array([0, 3, 3, 7])
    once, again = (pool.sample(rows, flow=True, both=True) for _ in range(2))
    assert asked == [True] * 3
    true = np.stack([plain(pool.pictures[pool.first[r]], pool.pictures[pool.second[r]], both=True) for r in rows])
    for place, found in enumerate((once.backward, once.forward)):
        assert found == pytest.approx(true[:, place], abs=2e-2)
    assert np.array_equal(once.backward, again.backward)  # type: ignore[arg-type]


def test_without_room_flows_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    pool = square_pool(pushes(6, 3))
    first, second = (pool.sample(np.array([1, 2]), flow=True).backward for _ in range(2))
    assert np.array_equal(first, second)  # type: ignore[arg-type]
    assert not pool.flows
