"""Where an attempt went wrong: by a judge's verdicts, or by the largest fall of an estimated value."""

import itertools
from collections.abc import Mapping, Sequence

from transforms.attempts.tree import Tree


def first_error(tree: Tree, leaf: str, value: Mapping[str, float] | None = None) -> str | None:
    """Return the first node on the path to `leaf` that is a mistake, `min {t : judge(tau <= t) = 1}`; None where there is none.

    Args:
        tree: the attempts.
        leaf: end of the attempt.
        value: estimated value after each node. Used where no node of the path was judged: the mistake is the node with the largest fall,
            if any falls. Nodes without a value are passed over.
    """
    path = tree.path(leaf)
    judged = [n for n in path if tree.rows[n]["error"] is not None]
    if judged:
        return next((n for n in judged if tree.rows[n]["error"]), None)
    return _largest_fall([n for n in path if n in (value or {})], value or {})


def _largest_fall(path: Sequence[str], value: Mapping[str, float]) -> str | None:
    falls = [(value[b] - value[a], at, b) for at, (a, b) in enumerate(itertools.pairwise(path))]
    worst = min(falls, default=None)
    return worst[2] if worst is not None and worst[0] < 0 else None
