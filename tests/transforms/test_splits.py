"""Splits hold out whole groups, near the asked share, and never move a group."""

import numpy as np

from transforms.splits import held_out

GROUPS = [f"scene-{i}" for i in range(20_000)]


def test_share_and_groups():
    held = held_out(GROUPS, 0.1)
    assert abs(held.mean() - 0.1) < 3 * (0.1 * 0.9 / len(GROUPS)) ** 0.5
    doubled = held_out([g for g in GROUPS[:500] for _ in range(3)], 0.3)
    assert np.array_equal(doubled.reshape(-1, 3), np.repeat(held_out(GROUPS[:500], 0.3)[:, None], 3, 1))


def test_appending_never_moves_a_group():
    assert np.array_equal(held_out(GROUPS[:100], 0.2), held_out(GROUPS, 0.2)[:100])
    assert np.array_equal(held_out(GROUPS[::-1], 0.2)[::-1], held_out(GROUPS, 0.2))
    small, large = held_out(GROUPS, 0.1), held_out(GROUPS, 0.3)
    assert (large[small]).all()


def test_salt_draws_anew_and_ends_are_exact():
    a, b = held_out(GROUPS, 0.5, "a"), held_out(GROUPS, 0.5, "b")
    assert 0.45 < (a == b).mean() < 0.55
    assert not held_out(GROUPS, 0.0).any()
    assert held_out([], 0.5).shape == (0,)
    assert held_out(["scene-1", "scene-2"], 0.5).tolist() == held_out(GROUPS, 0.5)[1:3].tolist()


def test_golden():
    """The split is part of what a mixture means: it may never change between versions or machines."""
    assert np.flatnonzero(held_out(GROUPS[:40], 0.25, "s")).tolist() == [1, 6, 8, 9, 18, 20, 25, 27, 36, 37, 38, 39]
