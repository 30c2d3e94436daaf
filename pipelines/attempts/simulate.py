"""Attempts made in a simulator that can be put back into a stored state, and the replay that proves a splice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.attempts import Node
from schemas.errors import UsageError
from schemas.ids import bytes_digest
from transforms.attempts.splice import Splice
from transforms.attempts.tree import Tree

F64 = npt.NDArray[np.float64]
Policy = Callable[[F64, int], F64]  # (observation float64[O], draw) -> action float64[A]


class Resettable(Protocol):
    """A simulator whose whole state is an array."""

    def get_state(self) -> F64:
        """Return the state, float64[S]."""
        ...

    def set_state(self, state: F64) -> None:
        """Go back to a state; what follows depends on it alone."""
        ...

    def observe(self) -> F64:
        """Return what a policy sees, float64[O]; changes nothing."""
        ...

    def step(self, action: F64) -> tuple[float, bool]:
        """Act once; return the reward and whether the task is solved."""
        ...


@dataclass(frozen=True, slots=True)
class Branching:
    """How a tree is grown.

    Attributes:
        steps: actions per node.
        depth: nodes per attempt at most; an attempt ends early where the task is solved.
        width: attempts begun from every state.
        hz: actions per second, for durations.
    """

    steps: int = 10
    depth: int = 3
    width: int = 2
    hz: float = 10.0


def grow(simulator: Resettable, start: F64, policies: Sequence[tuple[str, Policy]], task: str, how: Branching) -> list[Node]:
    """Try `how.width` times from every state reached, with the policies in turn; return the nodes of one tree per first attempt.

    Every node stores its actions, so it can be replayed; its `state` is the digest of the state it begins in, which the simulator was in
    fact put back into. R is 1 for a solved task and 0 for one that is not solved when `depth` nodes are done.
    """
    nodes: list[Node] = []
    frontier: list[tuple[Node | None, F64, int]] = [(None, start, 0)]
    while frontier:
        parent, state, depth = frontier.pop(0)
        for draw in range(how.width):
            name, policy = policies[draw % len(policies)]
            node, after, solved = _attempt(simulator, parent, state, name, policy, draw, task, how, last=depth + 1 == how.depth)
            nodes.append(node)
            if not solved and depth + 1 < how.depth:
                frontier.append((node, after, depth + 1))
    return nodes


def _attempt(
    simulator: Resettable,
    parent: Node | None,
    state: F64,
    name: str,
    policy: Policy,
    draw: int,
    task: str,
    how: Branching,
    *,
    last: bool,
) -> tuple[Node, F64, bool]:
    simulator.set_state(state)
    acted, solved = list[F64](), False
    for _ in range(how.steps):
        action = np.asarray(policy(simulator.observe(), draw), np.float64).reshape(-1)
        acted.append(action)
        _, solved = simulator.step(action)
        if solved:
            break
    values = np.stack(acted)
    fields: dict[str, Any] = {
        "kind": "rollout", "author": "policy", "generator": name, "state": state_digest(state), "values": tuple(values.reshape(-1).tolist()),
        "width": values.shape[1], "duration_s": len(values) / how.hz, "outcome": float(solved) if solved or last else None,
        "success": solved if solved or last else None, "detail": {"draw": draw},
    }  # fmt: skip
    node = parent.child(**fields) if parent is not None else Node(**fields, task=task)
    return node, simulator.get_state(), solved


def replay(simulator: Resettable, states: dict[str, F64], tree: Tree, splice: Splice) -> bool:
    """Carry a splice out: the wrong beginning, back to the shared state, the right continuation. Return whether the task is solved.

    Args:
        simulator: where.
        states: state by digest, of at least the states the two parts begin in.
        tree: where the splice is from.
        splice: what to replay.

    Raises:
        UsageError: a state or a node's actions are not there.
    """
    first = splice.wrong[0]
    for node in (first, splice.right[0]):
        if tree.rows[node]["state"] not in states:
            raise UsageError(f"the state node {node} begins in is not among the {len(states)} given")
    simulator.set_state(states[tree.rows[first]["state"]])
    for node in splice.wrong:
        _act(simulator, tree, node)
    simulator.set_state(states[tree.rows[splice.right[0]]["state"]])
    solved = [_act(simulator, tree, node) for node in splice.right]
    return any(solved)


def state_digest(state: F64) -> str:
    """Name a state by its bytes."""
    return bytes_digest([np.ascontiguousarray(state, np.float64).tobytes()])


def _act(simulator: Resettable, tree: Tree, node: str) -> bool:
    row = tree.rows[node]
    if not row["width"]:
        raise UsageError(f"node {node} stores no actions; replay recorded episodes from their shards")
    solved = False
    for action in np.asarray(row["values"], np.float64).reshape(-1, row["width"]):
        solved |= simulator.step(action)[1]
    return solved
