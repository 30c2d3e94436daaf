"""The attempt tree as an index: parents, paths, common ancestors, and the checks that make it a tree."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from schemas.attempts import NODES, ROOT, Step, Turn, turns_from_json
from schemas.errors import DataError
from schemas.ids import digest


@dataclass(frozen=True)
class Tree:
    """All attempts of one table, which may hold several trees. Build it through `open_tree`, which checks it.

    Attributes:
        rows: node name to its row of `NODES`, in the order of the table.
    """

    rows: dict[str, dict[str, Any]]

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Node name to its children's names, in order of name; roots are the children of `ROOT`."""
        found: dict[str, list[str]] = {}
        for name, row in self.rows.items():
            found.setdefault(row["parent"], []).append(name)
        return {parent: tuple(sorted(names)) for parent, names in found.items()}

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Nodes without children, in order of name: one per attempt."""
        return tuple(sorted(n for n in self.rows if n not in self.children))

    def path(self, node: str) -> tuple[str, ...]:
        """Return the nodes from the root to `node`, both included.

        Raises:
            DataError: there is no such node.
        """
        if node not in self.rows:
            raise DataError(f"the attempts hold no node {node!r}")
        found = [node]
        while (parent := self.rows[found[-1]]["parent"]) != ROOT:
            found.append(parent)
        return tuple(reversed(found))

    def common(self, first: str, second: str) -> str:
        """Return the last node on both paths; empty where they share none."""
        shared = ROOT
        for a, b in zip(self.path(first), self.path(second), strict=False):
            if a != b:
                break
            shared = a
        return shared

    def turns(self, node: str) -> tuple[Turn, ...]:
        """Return the turns of a node; none where its content is a recording."""
        return turns_from_json(self.rows[node]["turns"])

    def steps(self, nodes: Iterable[str], *, trained: bool = True) -> tuple[Step, ...]:
        """Return the steps of several nodes, one after the other."""
        return tuple(s for n in nodes for s in Step.of(n, self.turns(n), trained=trained))

    def siblings(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield every parent with at least two children, and those; roots of one task in one state count as siblings under `ROOT`."""
        for parent, names in sorted(self.children.items()):
            if parent != ROOT and len(names) > 1:
                yield parent, names
        starts: dict[tuple[str, str], list[str]] = {}
        for name in self.children.get(ROOT, ()):
            row = self.rows[name]
            if row["state"] is not None:
                starts.setdefault((row["state"], row["task"] or ""), []).append(name)
        for _, names in sorted(starts.items()):
            if len(names) > 1:
                yield ROOT, tuple(names)

    def outcome(self, node: str) -> float | None:
        """Return R of the best attempt through `node`: its own where it is a leaf; None where nothing below it is judged."""
        below = [self.outcome(child) for child in self.children.get(node, ())]
        own = self.rows[node]["outcome"]
        if own is None and self.rows[node]["success"] is not None:
            own = float(self.rows[node]["success"])
        judged = [x for x in (own, *below) if x is not None]
        return max(judged) if judged else None


def open_tree(nodes: pa.Table) -> Tree:
    """Index rows of `NODES` and check them.

    Raises:
        DataError: columns are missing, a name occurs twice, a parent does not exist, there is a cycle, a child lies in another tree, or
            a prefix is not the digest of its path.
    """
    if missing := [n for n in NODES.names if n not in nodes.column_names]:
        raise DataError(f"the attempts lack the columns {missing}")
    rows: dict[str, dict[str, Any]] = {}
    for row in nodes.to_pylist():
        if row["node"] in rows:
            raise DataError(f"node {row['node']} occurs twice; write every attempt once")
        rows[row["node"]] = row
    tree = Tree(rows)
    _check(tree)
    return tree


def _check(tree: Tree) -> None:
    for name, row in tree.rows.items():
        parent = row["parent"]
        if parent != ROOT and parent not in tree.rows:
            raise DataError(f"node {name} hangs on {parent}, which is not there")
        if parent != ROOT and tree.rows[parent]["tree"] != row["tree"]:
            raise DataError(f"node {name} of tree {row['tree']} hangs on a node of tree {tree.rows[parent]['tree']}")
    reached = list(_from_roots(tree))
    if len(reached) < len(tree.rows):
        lost = sorted(set(tree.rows) - set(reached))
        raise DataError(f"{len(lost)} nodes lead to no root, {lost[0]} among them: they form a cycle")
    for name in reached:
        row = tree.rows[name]
        before = tree.rows[row["parent"]]["prefix"] if row["parent"] != ROOT else ROOT
        if row["prefix"] != digest([before, row["content"]]):
            raise DataError(f"node {name}: its prefix is not that of its path; it was changed or moved after it was written")


def _from_roots(tree: Tree) -> Iterator[str]:
    open_nodes: list[str] = list(tree.children.get(ROOT, ()))
    while open_nodes:
        name = open_nodes.pop()
        yield name
        open_nodes.extend(tree.children.get(name, ()))


def text_of(steps: Sequence[Step]) -> str:
    """Return the texts of steps, one per line: what a reader or a comparison sees."""
    return "\n".join(s.turn.text for s in steps if s.turn is not None)
