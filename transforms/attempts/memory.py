"""What was tried before and failed: an attempt history without repetitions, and refinement records with masked mistakes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from schemas.attempts import Step
from transforms.attempts.tree import Tree, text_of


@dataclass(frozen=True, slots=True)
class History:
    """The attempts at one question worth remembering.

    Attributes:
        tree: name of the tree.
        kept: leaves of the attempts that differ, in the order they were made.
        repeated: leaves that resemble one kept before them.
        best: best R so far after each kept attempt; it never falls.
    """

    tree: str
    kept: tuple[str, ...]
    repeated: tuple[str, ...]
    best: tuple[float, ...]


def histories(tree: Tree, most: float = 0.9, similarity: Callable[[str, str], float] | None = None) -> Iterator[History]:
    """Yield one history per tree; two attempts are the same where their texts are at least `most` alike (OCR-Agent).

    Attempts are in order of version, then name. Recordings are the same where their content is. `similarity` defaults to the share of
    common words (Jaccard).
    """
    alike = similarity or jaccard
    for name in sorted({row["tree"] for row in tree.rows.values()}):
        leaves = [n for n in tree.leaves if tree.rows[n]["tree"] == name]
        leaves.sort(key=lambda n: (tree.rows[n]["version"] if tree.rows[n]["version"] is not None else -1, n))
        kept, repeated, best = list[str](), list[str](), list[float]()
        for leaf in leaves:
            if any(alike(_text(tree, leaf), _text(tree, other)) >= most for other in kept):
                repeated.append(leaf)
                continue
            kept.append(leaf)
            reward = tree.outcome(leaf)
            best.append(max([*best[-1:], reward if reward is not None else float("-inf")]))
        yield History(name, tuple(kept), tuple(repeated), tuple(best))


def jaccard(first: str, second: str) -> float:
    """Return the share of words two texts have in common; 1 for two empty ones."""
    a, b = set(first.split()), set(second.split())
    return len(a & b) / len(a | b) if a | b else 1.0


def _text(tree: Tree, leaf: str) -> str:
    path = tree.path(leaf)
    return text_of(tree.steps(path)) or " ".join(tree.rows[n]["content"] for n in path)


def refinements(tree: Tree) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Yield `(leaf, steps)` of every successful attempt with a mistake on its way; mistakes have no loss (AgentRefine).

    An attempt qualifies only where each mistake is followed by a word of the environment and then by something else than the mistake.
    """
    for leaf in tree.leaves:
        path = tree.path(leaf)
        mistakes = [n for n in path if tree.rows[n]["error"]]
        if not mistakes or not (tree.outcome(leaf) or 0) > 0 or tree.rows[leaf]["error"]:
            continue
        steps = tuple(s for n in path for s in Step.of(n, tree.turns(n), trained=not tree.rows[n]["error"]))
        if all(_answered(tree, path, n) for n in mistakes):
            yield leaf, steps


def _answered(tree: Tree, path: Sequence[str], mistake: str) -> bool:
    at = path.index(mistake)
    if at + 1 >= len(path) or tree.rows[path[at + 1]]["content"] == tree.rows[mistake]["content"]:
        return False
    told = [t.role for t in (*tree.turns(mistake), *tree.turns(path[at + 1])) if t.role in ("environment", "tool", "user")]
    return bool(told) or not tree.turns(mistake)  # a recording shows what came of it by itself
