"""The same question twice, once open and once as a choice between attempts: self-correction by generation or by selection."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.attempts import ROOT
from transforms.attempts.preference import best
from transforms.attempts.tree import Tree, text_of
from transforms.noise import raw, seed_of


@dataclass(frozen=True, slots=True)
class Choice:
    """A question in two forms.

    Attributes:
        tree: name of the tree.
        question: what both ask: the texts of the shared prefix.
        open_nodes: the right attempt, as an open answer.
        options: texts of the options in the order shown.
        nodes: the first node of each option.
        answer: position of the only right one.
    """

    tree: str
    question: str
    open_nodes: tuple[str, ...]
    options: tuple[str, ...]
    nodes: tuple[str, ...]
    answer: int


def choices(tree: Tree, options: int = 4, right: float = 0.5, seed: int = 0) -> Iterator[Choice]:
    """Yield one choice per branching with exactly comparable attempts: one right and up to `options - 1` wrong ones with other texts.

    The order shown is drawn from the question's own name, so it is the same for everybody and uniform over questions.
    """
    for parent, names in tree.siblings():
        judged = {n: r for n in names if (r := tree.outcome(n)) is not None and text_of(tree.steps(best(tree, n)))}
        good = next((n for n in names if n in judged and judged[n] > right), None)
        if good is None:
            continue
        shown = {text_of(tree.steps(best(tree, good))): good}
        for name in names:
            if name in judged and judged[name] <= right and len(shown) < options:
                shown.setdefault(text_of(tree.steps(best(tree, name))), name)
        if len(shown) < 2:
            continue
        prefix = tree.path(parent) if parent != ROOT else ()
        key = raw([seed_of("choice", seed, good, parent)], 0, len(shown))[0]
        order = sorted(range(len(shown)), key=lambda i, k=key: int(k[i]))
        texts = list(shown)
        names_shown = tuple(shown[texts[i]] for i in order)
        yield Choice(
            tree.rows[good]["tree"],
            text_of(tree.steps(prefix)),
            best(tree, good),
            tuple(texts[i] for i in order),
            names_shown,
            names_shown.index(good),
        )
