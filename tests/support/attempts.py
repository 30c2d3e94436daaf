"""Small attempt trees that can be checked by hand, random ones, and a simulator that can be put back."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from schemas.attempts import Node, Turn, table
from transforms.attempts.tree import Tree, open_tree

ASK = Turn("user", "What is 6 times 7?")


def said(text: str, **more: Any) -> dict[str, Any]:
    """Fields of a node in which a model says something."""
    return {"kind": "agent", "author": "model", "generator": "m", "turns": (Turn("assistant", text),), **more}


def question(task: str = "sum") -> Node:
    """A root: somebody asks."""
    return Node("agent", "environment", turns=(ASK,), task=task)


def arithmetic() -> tuple[Tree, dict[str, str]]:
    """One question; a right answer, a wrong one, and a wrong one that is put right in a second attempt; names by nickname."""
    root = question()
    wrong = root.child(**said("It is 41.", outcome=0.0, error=True, version=1))
    told = wrong.child(kind="agent", author="environment", turns=(Turn("environment", "That is not it."),))
    nodes = {
        "root": root, "right": root.child(**said("It is 42.", outcome=1.0, error=False, version=2)), "wrong": wrong, "told": told,
        "second": told.child(**said("Then it is 42.", outcome=1.0, error=False, version=2)),
        "poor": root.child(**said("It is 13.", outcome=0.2, error=True, version=1)),
    }  # fmt: skip
    return open_tree(table(nodes.values())), {name: node.id for name, node in nodes.items()}


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A random tree of up to 12 nodes with outcomes at its leaves."""
    nodes = [question(draw(st.sampled_from(["a", "b"])))]
    for at in range(draw(st.integers(1, 11))):
        parent = nodes[draw(st.integers(0, len(nodes) - 1))]
        judged = draw(st.sampled_from([None, 0.0, 0.3, 1.0]))
        fields = said(f"answer {draw(st.integers(0, 4))}", outcome=judged, error=draw(st.sampled_from([None, True, False])))
        nodes.append(parent.child(**fields, version=draw(st.integers(0, 2)), detail={"at": at}))
    return open_tree(table(nodes))


class Corridor:
    """A walker on a line with momentum; solved beyond place 5. Its whole state is place and speed."""

    def __init__(self) -> None:
        self.place, self.speed = 0.0, 0.0

    def get_state(self) -> np.ndarray:
        return np.array([self.place, self.speed])

    def set_state(self, state: np.ndarray) -> None:
        self.place, self.speed = map(float, state)

    def observe(self) -> np.ndarray:
        return self.get_state()

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        self.speed = 0.5 * self.speed + float(action[0])
        self.place += self.speed
        return self.place, self.place > 5
