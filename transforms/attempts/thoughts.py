"""Thoughts and their corrections, and whether thoughts still depend on what is going on (GTR: thought collapse).

An agent whose thoughts have collapsed says the same whatever it sees: the entropy of its thoughts is low, or they tell no more about
the state than thoughts that were dealt out at random would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.attempts import ROOT, Step
from transforms.attempts.tree import Tree, text_of
from transforms.noise import raw

I64 = npt.NDArray[np.int64]
FLOOR = 0.5  # nats; two thoughts in turn have 0.69


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mistaken thought and the one put in its place.

    Attributes:
        tree: name of the tree.
        state: digest of the state both were thought in; None for text.
        thought: the mistaken one.
        correction: the other one; never empty and never the same.
        node: where the mistaken one is, and
        by: where the other one is.
        steps: the prefix, untrained, and the corrected thought with what was done then, trained.
    """

    tree: str
    state: str | None
    thought: str
    correction: str
    node: str
    by: str
    steps: tuple[Step, ...]


def corrected_thoughts(tree: Tree) -> Iterator[Corrected]:
    """Yield every mistaken thought beside each right one of a sibling: one that was judged right, or that a person put in."""
    for parent, names in tree.siblings():
        thought = {n: text for n in names if (text := thought_of(tree, n))}
        wrong = [n for n in thought if tree.rows[n]["error"] is True]
        right = [n for n in thought if tree.rows[n]["error"] is False or tree.rows[n]["kind"] in ("intervention", "correction")]
        prefix = tree.steps(tree.path(parent), trained=False) if parent != ROOT else ()
        for node in wrong:
            for by in (n for n in right if n != node and thought[n] != thought[node]):
                state, name = tree.rows[node]["state"], tree.rows[node]["tree"]
                yield Corrected(name, state, thought[node], thought[by], node, by, (*prefix, *tree.steps((by,))))


def thought_of(tree: Tree, node: str) -> str:
    """Return the reasoning in a node, empty where there is none."""
    return "\n".join(t.text for t in tree.turns(node) if t.think and t.text.strip())


def situations(tree: Tree) -> list[tuple[str, str, str]]:
    """Return `(node, thought, what was told before it)` of every node with a thought, in order of name.

    What was told is the state's digest where there is one, else the last words before the thought that are not the author's own.
    """
    found = list[tuple[str, str, str]]()
    for node in sorted(tree.rows):
        if thought := thought_of(tree, node):
            told = [s for s in tree.steps(tree.path(node)[:-1]) if s.turn is not None and s.turn.role != "assistant"]
            found.append((node, thought, tree.rows[node]["state"] or text_of(told[-1:])))
    return found


@dataclass(frozen=True, slots=True)
class Collapse:
    """Whether thoughts have collapsed.

    Attributes:
        entropy: of the thoughts, nats.
        information: between classes of thoughts and of states, nats, counted.
        null: float64[P], the same with thoughts dealt out at random: counting is biased upward, and so is this.
        collapsed: whether entropy lies below the floor, or information not above 95 of 100 random deals.
    """

    entropy: float
    information: float
    null: npt.NDArray[np.float64]
    collapsed: bool


def collapse(
    thoughts: Sequence[str], thought: I64, state: I64, floor: float = FLOOR, deals: int = 200, seed: int = 0
) -> Collapse:
    """Measure whether thoughts depend on states.

    Args:
        thoughts: their texts, N of them.
        thought: int64[N], the class of each; classes of similar texts, so that no two need be the same.
        state: int64[N], the class of the state each was thought in.
        floor: least entropy of the texts, nats.
        deals: random deals.
        seed: of them.
    """
    texts = {t: n for n, t in enumerate(dict.fromkeys(" ".join(t.lower().split()) for t in thoughts))}
    counts = np.bincount([texts[" ".join(t.lower().split())] for t in thoughts])
    share = counts / counts.sum()
    entropy = float(-(share * np.log(share)).sum()) + 0.0
    orders = np.argsort(raw([seed], 31, deals * len(thought)).reshape(deals, -1), axis=1, kind="stable")
    null = np.array([information(thought[order], state) for order in orders])
    value = information(thought, state)
    return Collapse(entropy, value, null, bool(entropy < floor or value <= np.quantile(null, 0.95)))


def information(first: I64, second: I64) -> float:
    """Return the mutual information of two labellings, nats, from their counts."""
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first, second), 1 / len(first))
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())
