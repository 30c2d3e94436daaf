"""Receipts: what a finished unit is about to commit, kept beside its files until it has. They make a crash cost no work."""

import base64
import json
from typing import Any

import pyarrow as pa

from catalog.lake import Lake
from pipelines.publish import PublishedFile, is_intact, publish_bytes
from pipelines.unit.model import Output, Reject, Unit
from schemas.errors import LakeError

FOLDER, SUFFIX = "receipts", ".json"  # see `Lake.receipt`
CHEAP_S = 1.0  # work that took less, and left no files, is done again rather than written down


def is_worth_a_receipt(output: Output, seconds: float) -> bool:
    """Tell whether losing `output` would cost anything: files, rows of more than one table, or time."""
    return bool(output.files) or len(output.tables) > 1 or seconds >= CHEAP_S


def write_receipt(lake: Lake, unit: Unit, output: Output) -> None:
    """Publish what `unit` will commit."""
    body = {
        "unit": unit.id,
        "files": [{"path": f.path, "bytes": f.bytes, "blake3": f.blake3} for f in output.files],
        "tables": {name: base64.b64encode(_ipc(table)).decode() for name, table in output.tables.items()},
        "rejects": [
            {"key": r.key, "uri": r.uri, "error": r.error, "message": r.message, "episodes": r.episodes} for r in output.rejects
        ],
        "rows": output.rows, "frames": output.frames, "bytes": output.bytes, "measures": output.measures,
    }  # fmt: skip
    publish_bytes(lake, json.dumps(body).encode(), lake.receipt(unit.mark))


def recover(lake: Lake, unit: Unit) -> Output | None:
    """Return the output an earlier, interrupted try left behind, if every file it names is still intact."""
    body = _read(lake, unit.mark)
    if body is None:
        return None
    files = tuple(PublishedFile(**f) for f in body["files"])
    if not all(is_intact(lake, f) for f in files):
        return None
    return _output(body, files)


def read_receipt(lake: Lake, unit: Unit) -> Output:
    """Return what this run wrote down a moment ago.

    Raises:
        LakeError: it is gone.
    """
    body = _read(lake, unit.mark)
    if body is None:
        raise LakeError(f"{lake.receipt(unit.mark)} is gone although the unit has just been done; run the stage again")
    return _output(body, tuple(PublishedFile(**f) for f in body["files"]))


def open_receipts(lake: Lake) -> list[str]:
    """Return the marks of the units that have a receipt; one that is being written does not count."""
    names = [path.rsplit("/", 1)[-1] for path in lake.files(FOLDER)]
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]


def promised_files(lake: Lake) -> set[str]:
    """Return the paths that receipts of finished, not yet committed units name."""
    bodies = [_read(lake, mark) for mark in open_receipts(lake)]
    return {file["path"] for body in bodies if body is not None for file in body["files"]}


def remove_receipt(lake: Lake, unit: Unit) -> None:
    """Remove a committed unit's receipt, if there is one."""
    try:
        lake.fs.rm_file(lake.receipt(unit.mark))
    except FileNotFoundError:
        return


def _read(lake: Lake, mark: str) -> dict[str, Any] | None:
    try:
        return json.loads(lake.fs.cat_file(lake.receipt(mark)))
    except FileNotFoundError:
        return None


def _output(body: dict[str, Any], files: tuple[PublishedFile, ...]) -> Output:
    tables = {name: pa.ipc.open_stream(base64.b64decode(data)).read_all() for name, data in body["tables"].items()}
    rejects = tuple(Reject(**r) for r in body["rejects"])
    return Output(files, tables, rejects, body["rows"], body["frames"], body["bytes"], body.get("measures", {}))


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()
