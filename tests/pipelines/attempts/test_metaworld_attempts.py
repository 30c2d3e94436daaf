"""Attempts in the real simulator: states come back to the bit, and a spliced recovery solves the task."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from pipelines.attempts.simulate import Branching, grow, replay, state_digest
from schemas.attempts import table
from transforms.attempts.splice import splices
from transforms.attempts.tree import open_tree


@pytest.fixture(scope="module")
def simulator():
    if find_spec("metaworld") is None:  # an import would bind MuJoCo to a platform while tests are collected
        pytest.skip("Meta-World is not installed")
    from pipelines.attempts.simulators import MetaWorldAttempts

    return MetaWorldAttempts("reach-v3")


def test_a_stored_state_comes_back_to_the_bit(simulator):
    start, push = simulator.get_state(), np.array([0.5, -0.3, 0.2, 0.0])
    reached = []
    for _ in range(2):
        simulator.set_state(start)
        np.testing.assert_array_equal(simulator.get_state(), start)
        for _ in range(12):
            simulator.step(push)
        reached.append(simulator.get_state())
    np.testing.assert_array_equal(*reached)
    assert np.abs(reached[0] - start).max() > 0.01
    simulator.set_state(start)


def test_a_spliced_recovery_replays_to_success(simulator):
    start, away = simulator.get_state(), np.array([0.0, -1.0, 1.0, 0.0])
    policies = [("away", lambda _o, _d: away), ("expert", simulator.expert())]
    nodes = grow(simulator, start, policies, "reach", Branching(steps=60, depth=1, width=2, hz=80))
    judged = [replace(n, error=n.generator == "away") for n in nodes]
    tree = open_tree(table(judged))
    (splice,) = splices(tree)
    assert replay(simulator, {state_digest(start): start}, tree, splice)
    assert not replay(simulator, {state_digest(start): start}, tree, replace(splice, right=splice.wrong))
