"""Gains with their intervals, rollout groups, credit and weights: what reinforcement learning takes from a tree."""

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from schemas.attempts import Node, table
from tests.support.attempts import arithmetic, question, said, trees
from transforms.attempts.groups import advantages, duration_weights, groups, multi_view_reward, partial_credit
from transforms.attempts.interventions import interventions
from transforms.attempts.regenerations import mean_gain, regenerations
from transforms.attempts.tree import open_tree


def test_interventions_stand_beside_what_they_replace():
    root = question()
    policy = root.child(kind="robot", author="policy", actions="left", error=True)
    human = root.child(kind="intervention", author="human", actions="right")
    lost, won = policy.child(**said("a", outcome=0.0)), human.child(**said("b", outcome=1.0))
    tree = open_tree(table([root, policy, human, lost, won]))
    (found,) = interventions(tree)
    assert (found.original, found.inserted, found.gain, found.n) == (policy.id, human.id, 1.0, (1, 1))
    assert [s.node for s in found.steps if s.trained] == [human.id], "exactly one step is inserted"
    assert found.ci95 is not None
    assert found.ci95[0] <= 0, "one attempt each proves nothing"


def _rolled_out(chance: tuple[float, float], rollouts: int = 30):
    """An intervention and what it replaces, each continued several times."""
    rng, root = np.random.default_rng(0), question()
    steps = root.child(kind="intervention", author="human", actions="new"), root.child(**said("old", error=True))
    ends = [
        step.child(**said(f"end {i}", outcome=float(rng.random() < p)))
        for step, p in zip(steps, chance, strict=True)
        for i in range(rollouts)
    ]
    (found,) = interventions(open_tree(table([root, *steps, *ends])))
    return found


def test_the_gain_of_an_intervention_is_above_nothing_with_enough_rollouts():
    found = _rolled_out((0.9, 0.3))
    assert (found.n, found.gain) == ((30, 30), pytest.approx((found.won[0] - found.won[1]) / 30))
    assert found.ci95[0] > 0
    idle = _rolled_out((0.5, 0.5))
    assert idle.ci95[0] < 0 < idle.ci95[1], "the adversarial twin: an intervention that changes nothing"


def test_regenerations_keep_the_prefix_to_the_byte():
    tree, n = arithmetic()
    found = {(r.old[0], r.new[0]): r for r in regenerations(tree, {n["right"]: 0.5}, weight=2.0)}
    cut = found[n["poor"], n["right"]]
    assert (cut.cut, cut.prefix) == (n["root"], tree.rows[n["root"]]["prefix"])
    assert cut.gain == pytest.approx(0.8)
    assert cut.reward == pytest.approx(1.0 + 2.0 * 0.5), "outcome plus weighted process reward"


def _refined(gain: float):
    """Forty questions, each answered by version 1 and anew by version 2 from the same first word."""
    rng, made = np.random.default_rng(0), []
    for at in range(40):
        root = question(str(at))
        start = root.child(**said("first", detail={"at": at}))
        old, new = rng.normal(size=2)
        made += [
            root,
            start,
            start.child(**said("old", outcome=old, version=1)),
            start.child(**said("new", outcome=new + gain, version=2)),
        ]
    return list(regenerations(open_tree(table(made))))


def test_refined_attempts_gain_in_the_mean_of_pairs():
    found = _refined(1.5)
    mean, (low, _) = mean_gain(found)
    assert len(found) == 40
    assert mean == pytest.approx(np.mean([r.gain for r in found]))
    assert low > 0
    _, (low, high) = mean_gain(_refined(0.0))
    assert low < 0 < high, "the adversarial twin: regenerating for nothing"


@settings(max_examples=30)
@given(trees())
def test_group_advantages_add_up_to_nothing(tree):
    for group in groups(tree):
        assert math.fsum(group.advantages) == pytest.approx(0, abs=1e-9)
        assert len({tree.rows[n]["parent"] for n in group.nodes}) == 1


def test_rewards_of_several_views_rise_with_each():
    rewards = multi_view_reward(
        {"front.psnr": [20, 25, 30], "wrist.lpips": [0.5, 0.3, 0.1]}, {"front.psnr": 1.0, "wrist.lpips": -1.0}
    )
    assert rewards[0] < rewards[1] < rewards[2]
    assert math.fsum(rewards) == pytest.approx(0, abs=1e-9)
    assert advantages([2.0, 2.0]) == (0.0, 0.0)


def test_the_reward_of_imagined_clips_falls_with_blur_and_with_noise():
    """Two views against what the simulator showed, by OpenCV's PSNR and by correlation."""
    rng = np.random.default_rng(0)
    truth = {view: np.kron(rng.integers(60, 200, (8, 8)), np.ones((6, 6))).astype(np.uint8) for view in ("front", "wrist")}
    noise = {view: rng.normal(size=(48, 48)) for view in truth}
    worse = {
        "blur": lambda view, k: cv2.GaussianBlur(truth[view], (0, 0), k),
        "noise": lambda view, k: np.clip(truth[view] + 15 * k * noise[view], 0, 255).astype(np.uint8),
    }
    for spoil in worse.values():
        clips = [{view: spoil(view, k) for view in truth} for k in (0.5, 1, 2, 4)]
        metrics = {f"{v}.psnr": [cv2.PSNR(truth[v], c[v]) for c in clips] for v in truth}
        metrics |= {f"{v}.apart": [1 - np.corrcoef(truth[v].ravel(), c[v].ravel())[0, 1] for c in clips] for v in truth}
        rewards = multi_view_reward(metrics, {n: -1.0 if n.endswith("apart") else 1.0 for n in metrics})
        assert all(a > b for a, b in itertools.pairwise(rewards))
        assert math.fsum(advantages(rewards)) == pytest.approx(0, abs=1e-9)


def test_a_group_shares_the_state_that_was_rolled_out():
    """K futures of one imagined state hang on it, not on the recording it came from."""
    root = Node("rollout", "environment", actions="recording", state="gt")
    imagined = root.child(kind="rollout", author="model", actions="dream", state="gt")
    futures = [
        imagined.child(kind="rollout", author="model", actions=f"f{k}", state="dreamt", outcome=float(k)) for k in range(4)
    ]
    (found,) = groups(open_tree(table([root, imagined, *futures])))
    assert (found.parent, found.state) == (imagined.id, "dreamt")
    assert {f.parent_prefix for f in futures} == {imagined.prefix}


def test_partial_credit_rises_and_is_one_for_success_only():
    weights = {"reach": 1.0, "grasp": 2.0, "lift": 1.0}
    values = [partial_credit(reached, weights, success=False) for reached in ([], ["reach"], ["reach", "grasp"], list(weights))]
    assert values[:3] == [0.0, 0.25, 0.75]
    assert values[2] < values[3] < 1
    assert partial_credit([], weights, success=True) == 1


def test_duration_weights_undo_the_rate_of_asynchronous_workers():
    """Simulated: a worker per action draws nothing but that action and starts again when it is done."""
    durations, horizon = np.array([1.0, 2.5, 7.0]), 20_000.0
    rng = np.random.default_rng(0)
    finished = [int((np.cumsum(rng.uniform(0.5, 1.5, int(2 * horizon / d)) * d) <= horizon).sum()) for d in durations]
    mass = np.array(finished) * np.array(duration_weights(durations.tolist()))
    assert np.abs(mass / mass.mean() - 1).max() < 0.01
    assert np.ptp(finished) / np.mean(finished) > 1, "unweighted, short ones crowd out long ones"
