"""Writes a view of attempts to a file, whole or not at all."""

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.attempts.views import to_json_lines, view
from schemas.errors import UsageError
from transforms.attempts.questions import held_out_trees
from transforms.attempts.tree import open_tree

PARTS = ("all", "train", "test")


def write_view(nodes: pa.Table, name: str, out: Path, part: str = "all", test_share: float = 0.1) -> tuple[int, int]:
    """Write the view `name` of `nodes` (rows of `schemas.attempts.NODES`) to `out`; return its rows and the tasks they are about.

    Args:
        nodes: the attempts.
        name: see `pipelines.attempts.views.VIEWS`.
        out: a file that does not exist.
        part: `train` and `test` hold whole trees and share no run of words of their questions; `all` is both.
        test_share: about this share of the groups of questions is in `test`.

    Raises:
        UsageError: `out` exists, is neither .parquet nor .jsonl, or the part or the view is unknown, or the view is empty.
        DataError: the nodes are no trees.
    """
    if out.exists():
        raise UsageError(f"{out} exists; give a new name")
    if out.suffix not in (".parquet", ".jsonl"):
        raise UsageError(f"{out}: the file must end in .parquet or .jsonl")
    if part not in PARTS:
        raise UsageError(f"part {part!r} must be one of {', '.join(PARTS)}")
    nodes = nodes if part == "all" else _part(nodes, part, test_share)
    tree = open_tree(nodes)
    rows = view(tree, name)
    if not rows.num_rows:
        raise UsageError(
            f"view {name!r} of these {nodes.num_rows} nodes is empty; `cotrain attempts ls` says how many attempts are judged"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(handle)
    try:
        if out.suffix == ".parquet":
            pq.write_table(rows, temporary)
        else:
            Path(temporary).write_text(to_json_lines(rows), encoding="utf-8")
        Path(temporary).replace(out)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return rows.num_rows, len({row["task"] for row in tree.rows.values() if row["task"]})


def _part(nodes: pa.Table, part: str, share: float) -> pa.Table:
    out = held_out_trees(open_tree(nodes), share)
    return nodes.filter(pa.array([(name in out) == (part == "test") for name in nodes.column("tree").to_pylist()], pa.bool_()))
