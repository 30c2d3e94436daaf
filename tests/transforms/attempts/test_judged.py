"""What judges say: process rewards add up, verdicts choose, and verdicts that know nothing do not pass."""

import numpy as np
import pytest

from schemas.attempts import Node, Turn, table
from tests.support.attempts import question, said
from transforms.attempts.judged import candidates, process_rewards, selection
from transforms.attempts.regenerations import regenerations
from transforms.attempts.tree import Tree, open_tree


def tried(informative: bool | None, branchings: int = 150, each: int = 4) -> Tree:
    """Plans with candidates; a verifier knows how likely each is to succeed, knows nothing (None), or says the opposite."""
    rng, nodes = np.random.default_rng(0), []
    for at in range(branchings):
        root = Node("robot", "environment", actions=f"start {at}", task="reach", state=f"s{at}")
        chance = rng.random(each)
        told = chance if informative else 1 - chance if informative is False else rng.random(each)
        nodes += [root, *(
            root.child(kind="robot", author="policy", actions=f"{at}.{k}", outcome=float(rng.random() < chance[k]), detail={"judge": {"aligned": float(told[k])}})
            for k in range(each)
        )]  # fmt: skip
    return open_tree(table(nodes))


def test_the_best_of_k_beats_the_mean_of_k_and_its_word_can_be_trusted():
    found = selection(list(candidates(tried(True))))
    assert found is not None
    assert found.n == (150, 600)
    assert found.best > found.mean
    assert found.ci95 is not None
    assert found.ci95[0] > 0
    assert found.error < 0.08


@pytest.mark.parametrize("informative", [None, False])
def test_a_verifier_that_knows_nothing_or_lies_does_not_pass(informative):
    """The adversarial twins."""
    found = selection(list(candidates(tried(informative))))
    assert found is not None
    assert found.ci95 is not None
    assert found.ci95[0] <= 0
    assert found.error > 0.15


def test_the_first_of_equals_is_chosen_and_nothing_is_said_without_verdicts():
    root = question()
    same = [root.child(**said(t, outcome=r, detail={"judge": {"aligned": 0.5}})) for t, r in (("a", 1.0), ("b", 0.0))]
    (found,) = candidates(open_tree(table([root, *same, root.child(**said("c", outcome=1.0))])))
    assert found.chosen == min(n.id for n in same)
    assert len(found.nodes) == 2, "the third has no verdict"
    assert selection([]) is None


def test_process_rewards_are_the_exact_sum_of_their_parts():
    """ReSeek: a search that is judged; correctness 0.1 and utility 0.2 add up as floats do."""
    root = question()
    old = root.child(**said("search A", outcome=0.0, version=1, detail={"judge": {"correct": 0.5, "utility": -0.25}}))
    new = root.child(**said("search B", version=2, detail={"judge": {"correct": 0.1, "utility": 0.2}}))
    end = new.child(**said("42", outcome=1.0, version=2, detail={"judge": {"correct": 1.0}}))
    tree = open_tree(table([root, old, new, end]))
    rewards = process_rewards(tree)
    assert rewards == {old.id: 0.25, new.id: 0.1 + 0.2}, "half a verdict is none"
    (found,) = regenerations(tree, rewards, weight=2.0)
    assert found.reward == 1.0 + 2.0 * (0.1 + 0.2)
    assert found.gain == 1.0


def test_a_turn_may_think():
    assert (
        Node("agent", "model", turns=(Turn("assistant", "x", think=True),)).content
        != Node("agent", "model", turns=(Turn("assistant", "x"),)).content
    )
