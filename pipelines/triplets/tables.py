"""The Parquet files of an image-pair dataset, with the features Hugging Face `datasets` reads out of their metadata."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_SEEN = pa.struct(
    [
        pa.field("dataset", pa.string()),
        pa.field("episode", pa.string()),
        pa.field("camera", pa.string()),
        pa.field("t_ns", pa.int64()),
    ]
)
_S, _F = pa.string(), pa.float32()
_BOX = pa.list_(_F)
PAIRS = pa.schema(
    [
        pa.field("id", _S), pa.field("source", _IMAGE), pa.field("target", _IMAGE), pa.field("prompt", _S), pa.field("label", _S),
        pa.field("edit_kind", _S), pa.field("candidate", _S), pa.field("factor", _S), pa.field("object", _S), pa.field("of", _S),
        pa.field("confidence", _F), pa.field("minimality", _F), pa.field("mask", _IMAGE), pa.field("source_box", _BOX),
        pa.field("target_box", _BOX), pa.field("moved", _BOX), pa.field("camera_px", _F), pa.field("changed", _F),
        pa.field("ssim_outside", _F), pa.field("source_ref", _SEEN), pa.field("target_ref", _SEEN), pa.field("licence", _S),
    ]
)  # fmt: skip
CONTRASTS = pa.schema([pa.field("anchor", _S), pa.field("same_action", _S), pa.field("same_context", _S)])
ROWS_PER_GROUP = 100
CONFIGS = {"triplets": "positives and hard negatives", "arm_only": "only the robot moved", "goals": "starts and later goals"}


def with_features(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose metadata tells `datasets` which columns are pictures."""
    features = {f.name: _feature(f.type) for f in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_pairs(path: Path, batches: Iterator[Sequence[Mapping[str, Any]]]) -> int:
    """Write rows of `PAIRS`, a bounded group at a time; returns how many. No file where there are none."""
    writer, count = None, 0
    try:
        for rows in batches:
            if not rows:
                continue
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(path, with_features(PAIRS), compression="zstd", write_page_index=True)
            writer.write_table(pa.Table.from_pylist(list(rows), schema=with_features(PAIRS)), row_group_size=ROWS_PER_GROUP)
            count += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return count


def write_contrasts(path: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows of `CONTRASTS`; no file where there are none."""
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=with_features(CONTRASTS)), path, compression="zstd")
    return len(rows)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {kind.field(i).name: _feature(kind.field(i).type) for i in range(kind.num_fields)}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {
        "dtype": str(kind).replace("float", "float32") if kind == pa.float32() and str(kind) == "float" else str(kind),
        "_type": "Value",
    }
