"""The collapse audit on four worlds whose information is known."""

import numpy as np
import pytest
import torch

from pipelines.audit.collapse import CollapseConfig, audit_collapse

CLASSES, COUNT = 6, 1000
CONFIG = CollapseConfig(hidden=48, epochs=14, patience=3, permutations=1)


def _world(told_by_vision: float, effect: float, seed: int = 0):
    """Instruction of K classes; vision shows it with probability `told_by_vision`; the action leans towards it by `effect`."""
    rng = np.random.default_rng(seed)
    said = rng.integers(0, CLASSES, COUNT)
    shown = np.where(rng.random(COUNT) < told_by_vision, said, rng.integers(0, CLASSES, COUNT))
    seen = np.concatenate([2 * np.eye(CLASSES)[shown] + 0.2 * rng.normal(size=(COUNT, CLASSES)), rng.normal(size=(COUNT, 2))], 1)
    aim = np.stack([np.cos(2 * np.pi * said / CLASSES), np.sin(2 * np.pi * said / CLASSES)], 1)
    done = effect * aim + 0.5 * rng.normal(size=(COUNT, 2))
    return seen, said.astype(np.int64), done, np.arange(COUNT) // 5


@pytest.fixture(scope="module")
def worlds():
    torch.set_num_threads(1)
    cases = {"free": (0.0, 1.5), "idle": (0.0, 0.0), "hinted": (0.9, 1.5), "told": (1.0, 1.5)}
    return {name: audit_collapse(*_world(*case), CONFIG) for name, case in cases.items()}


def test_the_four_worlds_come_in_the_right_order(worlds):
    assert worlds["free"].information > worlds["hinted"].information > worlds["told"].information
    assert worlds["free"].information > 1.0
    assert worlds["idle"].information < 0.05
    assert worlds["told"].information < 0.15, "language fully told by vision must not look informative"


def test_the_bound_is_never_exceeded_by_much_and_is_always_there(worlds):
    for found in worlds.values():
        assert found.information <= found.bound + 0.1
        assert found.entropy == pytest.approx(np.log(CLASSES), abs=0.02)
        assert found.ci95[0] <= found.information <= found.ci95[1]


def test_verdicts(worlds):
    assert worlds["free"].verdict == "used"
    assert worlds["told"].verdict == "collapsed"
    assert worlds["told"].index > 0.9
    assert worlds["idle"].verdict == "unused"


def test_shuffled_instructions_say_nothing(worlds):
    """The adversarial twin: the estimator must not find information in instructions dealt at random among look-alikes."""
    assert abs(worlds["free"].null).max() < 0.1


def test_the_same_audit_gives_the_same_numbers():
    small = CollapseConfig(hidden=16, epochs=2, permutations=1)
    seen, said, done, component = (x[:200] for x in _world(0.5, 1.0))
    first, second = (audit_collapse(seen, said, done, component, small) for _ in range(2))
    np.testing.assert_array_equal(first.pmi, second.pmi)
    assert first.null.tolist() == second.null.tolist()
