"""Writes a view of attempts to a file, whole or not at all."""

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.attempts.views import to_json_lines, view
from schemas.errors import UsageError
from transforms.attempts.tree import open_tree


def write_view(nodes: pa.Table, name: str, out: Path) -> int:
    """Write the view `name` of `nodes` (rows of `schemas.attempts.NODES`) to `out`; return its number of rows.

    Raises:
        UsageError: `out` exists, is neither .parquet nor .jsonl, or the view is unknown or empty.
        DataError: the nodes are no trees.
    """
    if out.exists():
        raise UsageError(f"{out} exists; give a new name")
    if out.suffix not in (".parquet", ".jsonl"):
        raise UsageError(f"{out}: the file must end in .parquet or .jsonl")
    rows = view(open_tree(nodes), name)
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
    return rows.num_rows
