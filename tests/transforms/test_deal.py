"""Dealing out components: whole ones, near the shares, stable when more come, and what leakage does to a number."""

import numpy as np
import pytest

from transforms.splits import deal, draws
from transforms.unionfind import shared_keys


def test_a_group_keeps_its_draw_while_it_only_grows_upwards() -> None:
    groups = [["a", "b"], ["c"], ["d", "e", "f"]]
    found = draws(groups, "salt")
    alone = {name: draws([[name]], "salt")[0] for name in "abcdef"}
    assert found.tolist() == [min(alone[n] for n in g) for g in groups]
    assert draws(groups, "other").tolist() != found.tolist()
    assert 0.45 < draws([[str(i)] for i in range(4000)]).mean() < 0.55


@pytest.mark.parametrize("seed", range(30))
def test_shares_are_met_as_far_as_whole_groups_allow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.zipf(1.6, 300), 400).tolist()
    split = deal(sizes, draws([[f"{seed}-{i}"] for i in range(300)]), {"test": 0.1, "val": 0.1}, {})
    total = sum(sizes)
    for name in ("test", "val"):
        inside = [n for n, s in zip(sizes, split, strict=True) if s == name]
        assert sum(inside) <= round(0.1 * total)
        assert sum(inside) >= 0.1 * total - 2  # single episodes fill what is left
        assert max(inside) <= 0.1 * total


def test_what_is_dealt_stays_when_more_comes() -> None:
    sizes, ids = [3, 5, 2, 9, 1, 4], [[f"e{i}"] for i in range(6)]
    first = deal(sizes, draws(ids), {"test": 0.3}, {})
    more = [*ids, *[[f"n{i}"] for i in range(20)]]
    second = deal([*sizes, *[2] * 20], draws(more), {"test": 0.3}, dict(enumerate(first)))
    assert second[:6] == first
    inside = sum(n for n, s in zip([*sizes, *[2] * 20], second, strict=True) if s == "test")
    assert abs(inside - 0.3 * 64) <= 2


def test_leakage_inflates_a_number_and_components_take_it_back() -> None:
    """Sheet 2.17: a nearest neighbour that only knows the scene looks perfect across a random split and is at chance across scenes."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 80, 1200)
    label = rng.integers(0, 7, 80)[scene]
    signature = rng.normal(size=(80, 8))[scene] + 0.1 * rng.normal(size=(1200, 8))
    root = shared_keys([[f"scene={s}"] for s in scene])
    groups = [np.flatnonzero(root == r) for r in np.unique(root)]
    split = deal([len(g) for g in groups], draws([[f"e{i}" for i in g] for g in groups]), {"test": 0.2}, {})
    grouped = np.zeros(1200, bool)
    for members, name in zip(groups, split, strict=True):
        grouped[members] = name == "test"
    assert not set(scene[grouped]) & set(scene[~grouped])

    def accuracy(test: np.ndarray) -> float:
        distance = ((signature[test][:, None] - signature[~test][None]) ** 2).sum(-1)
        return float((label[~test][distance.argmin(1)] == label[test]).mean())

    assert accuracy(rng.random(1200) < 0.2) > 0.95
    assert accuracy(grouped) < 0.35
