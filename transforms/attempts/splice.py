"""Revisions: a wrong beginning joined to a right continuation, single-step interventions, and suffixes written anew.

Splices follow Agent-R (Yuan et al., 2025): keep the bad attempt up to its first error, say that it was one, go on as the good attempt
does from the state both share. A revision is only taken from a good attempt above `alpha` and a bad one below `beta < alpha`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.attempts import ROOT, Step, Turn
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


@dataclass(frozen=True, slots=True)
class Intervention:
    """A prefix, what was done there, and the single step somebody put in its place.

    Attributes:
        tree: name of the tree.
        prefix: nodes before the step.
        original: the step that was replaced.
        inserted: the step put in its place.
        steps: prefix, untrained, and the inserted step, trained.
        gain: R after the inserted step less R after the original one; None where one of them is not judged.
        n: judged attempts below the two steps.
    """

    tree: str
    prefix: tuple[str, ...]
    original: str
    inserted: str
    steps: tuple[Step, ...]
    gain: float | None
    n: tuple[int, int]


def interventions(tree: Tree) -> Iterator[Intervention]:
    """Yield every node of kind `intervention` or `correction` beside the node it replaces: its sibling by a policy or model (InT, 2026)."""
    for parent, names in tree.siblings():
        put_in = [n for n in names if tree.rows[n]["kind"] in ("intervention", "correction")]
        replaced = [n for n in names if n not in put_in]
        prefix = tree.path(parent) if parent != ROOT else ()
        for inserted in put_in:
            for original in replaced:
                steps = (*tree.steps(prefix, trained=False), *tree.steps((inserted,)))
                means, counts = zip(*(mean_outcome(tree, n) for n in (inserted, original)), strict=True)
                gain = means[0] - means[1] if None not in means else None
                yield Intervention(tree.rows[inserted]["tree"], prefix, original, inserted, steps, gain, counts)


def mean_outcome(tree: Tree, node: str) -> tuple[float | None, int]:
    """Return the mean R of the judged attempts through `node` and their number: its estimated value."""
    judged = [r for r in _below(tree, node) if r is not None]
    return (sum(judged) / len(judged) if judged else None), len(judged)


def _below(tree: Tree, node: str) -> Iterator[float | None]:
    children = tree.children.get(node, ())
    if not children:
        yield tree.outcome(node)
    for child in children:
        yield from _below(tree, child)


@dataclass(frozen=True, slots=True)
class Regeneration:
    """An attempt cut at a node and written anew from there (Search-R2).

    Attributes:
        tree: name of the tree.
        cut: last node that was kept; empty where nothing was.
        prefix: digest of what was kept: the same for both.
        old: nodes of the old suffix.
        new: nodes of the new one.
        steps: kept nodes, untrained, and the new suffix, trained.
        reward: R of the new attempt plus `weight` times its process reward.
        gain: R of the new attempt less R of the old one.
    """

    tree: str
    cut: str
    prefix: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    steps: tuple[Step, ...]
    reward: float
    gain: float


def regenerations(tree: Tree, process: Mapping[str, float] | None = None, weight: float = 0.0) -> Iterator[Regeneration]:
    """Yield, for every branching, each pair of attempts below it of which the later version is the newer one.

    Versions are the nodes' `version`; attempts without one are not compared. `process` is a process reward per node; its mean over the
    new suffix counts `weight`.
    """
    for old in tree.leaves:
        for new in tree.leaves:
            before_r, after_r = tree.outcome(old), tree.outcome(new)
            if before_r is None or after_r is None or not _newer(tree.rows[old], tree.rows[new]):
                continue
            cut = tree.common(old, new)
            kept = tree.path(cut) if cut else ()
            before, after = tree.path(old)[len(kept) :], tree.path(new)[len(kept) :]
            if not before or not after:
                continue
            marks = [process[n] for n in after if n in process] if process else []
            reward = after_r + weight * (sum(marks) / len(marks) if marks else 0.0)
            steps = (*tree.steps(kept, trained=False), *tree.steps(after))
            prefix = tree.rows[cut]["prefix"] if cut else ROOT
            yield Regeneration(tree.rows[new]["tree"], cut, prefix, before, after, steps, reward, after_r - before_r)


def _newer(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Tell whether `new` is an attempt of the same tree by a later version."""
    versions = old["version"], new["version"]
    return old["tree"] == new["tree"] and None not in versions and versions[0] < versions[1]
