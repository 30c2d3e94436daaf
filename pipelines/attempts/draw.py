"""Draws an attempt tree as text."""

from typing import Any

from schemas.attempts import ROOT
from transforms.attempts.tree import Tree

WIDTH = 72


def draw(tree: Tree, name: str) -> str:
    """Return one line per node of the tree called `name`, children indented below their parents."""
    lines = [name]
    roots = [n for n in tree.children.get(ROOT, ()) if tree.rows[n]["tree"] == name]
    for at, root in enumerate(roots):
        _branch(tree, root, "", at == len(roots) - 1, lines)
    return "\n".join(lines)


def _branch(tree: Tree, node: str, indent: str, last: bool, lines: list[str]) -> None:
    lines.append(f"{indent}{'`-' if last else '|-'} {_line(tree, node)}")
    children = tree.children.get(node, ())
    for at, child in enumerate(children):
        _branch(tree, child, indent + ("   " if last else "|  "), at == len(children) - 1, lines)


def _line(tree: Tree, node: str) -> str:
    row: dict[str, Any] = tree.rows[node]
    said = " ".join(t.text for t in tree.turns(node)).replace("\n", " ")
    if not said and row["episode_id"]:
        said = f"{row['episode_id']} {row['start_ns'] * 1e-9:.2f}-{row['end_ns'] * 1e-9:.2f} s"
    elif not said and row["width"]:
        said = f"{len(row['values']) // row['width']} actions"
    marks = [
        row["author"],
        *(["mistake"] if row["error"] else []),
        *([f"R={row['outcome']:g}"] if row["outcome"] is not None else []),
    ]
    return f"{node[:10]} [{', '.join(marks)}] {said[:WIDTH]}"
