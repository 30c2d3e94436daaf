"""Single-step interventions: a prefix, what was done there, and what somebody put in its place (InT, 2026)."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.attempts import ROOT, Step
from transforms.attempts.tree import Tree
from transforms.intervals import share_difference

RIGHT = 0.5  # R above this is a success


@dataclass(frozen=True, slots=True)
class Intervention:
    """A step and the one put in its place.

    Attributes:
        tree: name of the tree.
        prefix: nodes before the step.
        original: the step that was replaced.
        inserted: the step put in its place.
        steps: prefix, untrained, and the inserted step, trained.
        gain: mean R after the inserted step less mean R after the original one; None where one of them is not judged.
        n: judged attempts below the inserted and the original step.
        won: successes among them.
        ci95: interval of the difference of the two success rates, from Wilson's of each; None where one of them is not judged.
    """

    tree: str
    prefix: tuple[str, ...]
    original: str
    inserted: str
    steps: tuple[Step, ...]
    gain: float | None
    n: tuple[int, int]
    won: tuple[int, int]
    ci95: tuple[float, float] | None


def interventions(tree: Tree, right: float = RIGHT) -> Iterator[Intervention]:
    """Yield every node of kind `intervention` or `correction` beside the node it replaces: its sibling by a policy or model.

    Continue both several times (`pipelines.attempts.simulate.grow`, or more traces): with one attempt each the interval holds 0.
    """
    for parent, names in tree.siblings():
        put_in = [n for n in names if tree.rows[n]["kind"] in ("intervention", "correction")]
        replaced = [n for n in names if n not in put_in]
        prefix = tree.path(parent) if parent != ROOT else ()
        for inserted in put_in:
            for original in replaced:
                steps = (*tree.steps(prefix, trained=False), *tree.steps((inserted,)))
                after, before = judged_below(tree, inserted), judged_below(tree, original)
                n, won = (len(after), len(before)), (sum(r > right for r in after), sum(r > right for r in before))
                gain = sum(after) / n[0] - sum(before) / n[1] if all(n) else None
                ci95 = share_difference((won[0], n[0]), (won[1], n[1])) if all(n) else None
                yield Intervention(tree.rows[inserted]["tree"], prefix, original, inserted, steps, gain, n, won, ci95)


def judged_below(tree: Tree, node: str) -> tuple[float, ...]:
    """Return R of every judged attempt through `node`, in order of name; their mean is its estimated value."""
    children = tree.children.get(node, ())
    if not children:
        reward = tree.outcome(node)
        return () if reward is None else (reward,)
    return tuple(r for child in children for r in judged_below(tree, child))
