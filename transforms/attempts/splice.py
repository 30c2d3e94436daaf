"""Revisions: a wrong beginning joined to a right continuation.

Splices follow Agent-R (Yuan et al., 2025): keep the bad attempt up to its first error, say that it was one, go on as the good attempt
does from the state both share. A revision is only taken from a good attempt above `alpha` and a bad one below `beta < alpha`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.attempts import Step, Turn
from schemas.errors import UsageError
from transforms.attempts.errors import first_error
from transforms.attempts.tree import Tree

MARKER = Turn("assistant", "That was a mistake. I go back to where I still was right and try again.", think=True)


@dataclass(frozen=True, slots=True)
class Splice:
    """A revision.

    Attributes:
        tree: name of the tree.
        bad: leaf of the bad attempt.
        good: leaf of the good attempt.
        ancestor: last node both share; empty where they share only the state they begin in.
        state: digest of the state both leave from, to go back to before the continuation; None for text.
        wrong: nodes of the bad attempt after the ancestor, up to its first error.
        right: nodes of the good attempt after the ancestor.
        steps: everything in order; only what comes from the marker on is trained.
        outcome: R of the good attempt, which replaying the splice must reach.
    """

    tree: str
    bad: str
    good: str
    ancestor: str
    state: str | None
    wrong: tuple[str, ...]
    right: tuple[str, ...]
    steps: tuple[Step, ...]
    outcome: float


def splices(tree: Tree, alpha: float = 0.5, beta: float = 0.5, value: Mapping[str, float] | None = None) -> Iterator[Splice]:
    """Yield every splice of a bad attempt with the best good one that leaves it latest, ordered by bad leaf.

    An attempt whose continuation would repeat an erroneous step (the same state and the same content) is not used.

    Raises:
        UsageError: `beta` lies above `alpha`.
    """
    if beta > alpha:
        raise UsageError(f"beta {beta} must not lie above alpha {alpha}: bad attempts would be good ones")
    scored = {leaf: tree.outcome(leaf) for leaf in tree.leaves}
    good = [leaf for leaf, r in scored.items() if r is not None and r > alpha]
    for bad in (leaf for leaf, r in scored.items() if r is not None and r < beta):
        wrong_at = first_error(tree, bad, value)
        if wrong_at is None:
            continue
        found = [s for g in good if (s := _join(tree, bad, g, wrong_at, scored[g] or 0.0)) is not None]
        if found:
            yield max(found, key=lambda s: (len(tree.path(s.ancestor)) if s.ancestor else 0, s.outcome, s.good))


def _join(tree: Tree, bad: str, good: str, wrong_at: str, outcome: float) -> Splice | None:
    ancestor = tree.common(bad, good)
    bad_path, good_path = tree.path(bad), tree.path(good)
    depth = bad_path.index(ancestor) + 1 if ancestor else 0
    wrong, right = bad_path[depth : bad_path.index(wrong_at) + 1], good_path[depth:]
    if not wrong or not right:
        return None  # the mistake lies before they part, or the good attempt is the beginning of the bad one
    state = tree.rows[right[0]]["state"]
    if not ancestor and (state is None or state != tree.rows[bad_path[0]]["state"]):
        return None  # they share neither a past nor a beginning
    if {_act(tree, n) for n in wrong} & {_act(tree, n) for n in right}:
        return None
    kept = tree.path(ancestor) if ancestor else ()
    steps = (
        *tree.steps((*kept, *wrong), trained=False),
        Step(right[0], MARKER, -1, trained=True),
        *tree.steps(right),
    )  # fmt: skip
    return Splice(tree.rows[bad]["tree"], bad, good, ancestor, state, wrong, right, steps, outcome)


def _act(tree: Tree, node: str) -> tuple[str | None, str]:
    return tree.rows[node]["state"], tree.rows[node]["content"]
