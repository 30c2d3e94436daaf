"""Corrected thoughts, and collapse: thoughts that follow the state pass, those that do not are found."""

import numpy as np
import pytest

from schemas.attempts import Node, Turn, table
from transforms.attempts.thoughts import collapse, corrected_thoughts, information, situations
from transforms.attempts.tree import open_tree


def thinking(thought: str, act: str, **more) -> dict:
    return {
        "kind": "agent", "author": "model", "turns": (Turn("assistant", thought, think=True), Turn("assistant", act)), **more
    }  # fmt: skip


def cards(state: str) -> Node:
    return Node("agent", "environment", turns=(Turn("user", f"the cards are {state}"),), task="24", state=state)


def test_a_correction_stands_beside_the_thought_it_replaces():
    root = cards("2 3 4")
    wrong = root.child(**thinking("the cards are 2 3 5", "2+3", error=True))
    right = root.child(**thinking("the cards are 2 3 4", "2*3*4", error=False))
    person = root.child(**thinking("look: 2, 3 and 4", "2*3*4") | {"kind": "correction", "author": "human"})
    silent = root.child(kind="agent", author="model", turns=(Turn("assistant", "2-3"),), error=False)
    found = list(corrected_thoughts(open_tree(table([root, wrong, right, person, silent]))))
    assert {(f.node, f.by) for f in found} == {(wrong.id, right.id), (wrong.id, person.id)}
    for one in found:
        assert one.thought == "the cards are 2 3 5"
        assert one.correction
        assert one.correction != one.thought
        assert [s.trained for s in one.steps] == [False, True, True]
        assert {s.node for s in one.steps if s.trained} == {one.by}


def test_what_was_told_is_the_state_or_the_last_words_before():
    root = cards("9")
    first = root.child(**thinking("nine", "9"))
    back = first.child(kind="agent", author="environment", turns=(Turn("environment", "now 8"),))
    second = back.child(**thinking("eight", "8"))
    third = second.child(**thinking("still eight", "8", state="s8"))
    found = {thought: told for _, thought, told in situations(open_tree(table([root, first, back, second, third])))}
    assert found == {"nine": "the cards are 9", "eight": "now 8", "still eight": "s8"}


STATE = np.arange(200) % 5


def test_thoughts_that_follow_the_state_have_not_collapsed():
    found = collapse([f"I see state {s}" for s in STATE], STATE, STATE)
    assert found.entropy == pytest.approx(np.log(5))
    assert found.information == pytest.approx(np.log(5))
    assert found.null.max() < 0.2
    assert not found.collapsed


@pytest.mark.parametrize(
    "thought",
    [np.zeros(200, int), np.where(np.arange(200) < 190, 0, 1), np.random.default_rng(0).integers(0, 5, 200)],
    ids=["always the same", "nearly always the same", "anything whatever the state"],
)
def test_collapsed_thoughts_are_found(thought):
    """The adversarial twins."""
    assert collapse([f"thought {t}" for t in thought], thought, STATE).collapsed


def test_counted_information_is_entropy_of_copies_and_nothing_of_products():
    first = np.repeat([0, 1], 8)
    assert information(first, first) == pytest.approx(np.log(2))
    assert information(first, np.tile([0, 1], 8)) == pytest.approx(0)
    assert collapse(["A  b", "a b"], np.array([0, 0]), np.array([0, 1])).entropy == 0, "spelling aside, one thought"
