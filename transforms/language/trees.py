"""Distance between ordered labelled trees (Zhang and Shasha, SIAM J. Comput. 18, 1989): insert, delete and rename cost one each."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Tree:
    """A label and what hangs below it, left to right."""

    label: str
    below: tuple["Tree", ...] = ()

    @property
    def size(self) -> int:
        """Number of nodes."""
        return 1 + sum(t.size for t in self.below)


def edit_distance(one: Tree, other: Tree) -> int:
    """Return the least number of inserted, deleted and renamed nodes that turns one tree into the other."""
    a, left_a = _postorder(one)
    b, left_b = _postorder(other)
    tree = np.zeros((len(a), len(b)), np.int64)
    for i in _roots(left_a):
        for j in _roots(left_b):
            _fill(tree, a, b, left_a, left_b, i, j)
    return int(tree[-1, -1])


def similarity(one: Tree, other: Tree) -> float:
    """Return `1 - distance / (nodes of one + nodes of other)`: 1 for equal trees, never below 0."""
    return 1.0 - edit_distance(one, other) / (one.size + other.size)


def _fill(tree: np.ndarray, a: list[str], b: list[str], left_a: list[int], left_b: list[int], i: int, j: int) -> None:
    """Solve the forests that end at `i` and `j`; whole subtrees met on the way are kept in `tree`."""
    u, v = left_a[i], left_b[j]
    forest = np.zeros((i - u + 2, j - v + 2), np.int64)
    forest[:, 0], forest[0, :] = np.arange(i - u + 2), np.arange(j - v + 2)
    for x in range(u, i + 1):
        for y in range(v, j + 1):
            m, n = x - u + 1, y - v + 1
            best = min(forest[m - 1, n], forest[m, n - 1]) + 1
            if left_a[x] == u and left_b[y] == v:
                forest[m, n] = min(best, forest[m - 1, n - 1] + (a[x] != b[y]))
                tree[x, y] = forest[m, n]
            else:
                forest[m, n] = min(best, forest[left_a[x] - u, left_b[y] - v] + tree[x, y])


def _postorder(tree: Tree) -> tuple[list[str], list[int]]:
    """Return labels in postorder, and for each node the place of its leftmost leaf."""
    labels, left = list[str](), list[int]()

    def visit(node: Tree) -> int:
        firsts = [visit(child) for child in node.below]
        labels.append(node.label)
        left.append(firsts[0] if firsts else len(labels) - 1)
        return left[-1]

    visit(tree)
    return labels, left


def _roots(left: list[int]) -> list[int]:
    """Nodes that are the last with their leftmost leaf, in order."""
    return sorted({leaf: at for at, leaf in enumerate(left)}.values())
