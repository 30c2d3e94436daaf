"""Entropy and the neighbourhoods of instructions."""

import numpy as np
import pytest

from transforms.coverage import entropy, instructions_nearby


def test_entropy_of_even_and_single_shares():
    assert entropy([5, 5, 5, 5]) == pytest.approx(np.log(4))
    assert entropy([7, 0]) == 0
    assert entropy([]) == 0


def test_a_scene_with_one_instruction_each_has_no_choice_and_shuffled_ones_do():
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(4), 30)
    seen = np.eye(4)[scene] * 10 + rng.normal(0, 0.1, (120, 4))
    assert instructions_nearby(seen, scene) == 0
    assert instructions_nearby(seen, rng.integers(0, 4, 120)) > 0.99
    assert instructions_nearby(seen[:1], scene[:1]) == 0
