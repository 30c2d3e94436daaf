"""A process that reads a dataset with TFDS and writes what it read to its standard output, as an Arrow stream.

`python -m pipelines.exporters.tfds_reader FOLDER EVERY`. TensorFlow lives and dies here; the process that compares never sees it,
and this one knows neither the lake nor how the dataset was written. One record batch per episode, one row per array, text list or
picture; schema metadata tells the versions.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_GCE_CHECK": "true", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # steps/action, episode_metadata/episode_id, ...
        pa.field("kind", pa.string(), nullable=False),  # split | array | text | encoded | decoded
        pa.field("step", pa.int64(), nullable=False),  # of a picture; -1 otherwise
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("shape", pa.list_(pa.int64()), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False),  # C order; texts as a JSON list
    ]
)
VERSIONS = b"versions"


def main(folder: str, every: int) -> None:
    """Read every split of the dataset in `folder`; pictures of every `every`-th step."""
    out = os.dup(1)
    os.dup2(2, 1)  # nothing a library prints may end up in the stream
    os.environ.update(QUIET)
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    splits = {name: info.num_shards for name, info in builder.info.splits.items()}
    versions = {"tensorflow": tf.__version__, "tensorflow_datasets": tfds.__version__, "splits": splits}
    with os.fdopen(out, "wb") as sink, pa.ipc.new_stream(sink, SCHEMA.with_metadata({VERSIONS: json.dumps(versions)})) as stream:
        for split, shards in splits.items():
            if not shards:
                continue  # TFDS declares an empty split and refuses to read it
            for episode in _episodes(builder, split):
                rows = [_row(split, "split", b""), *_rows(episode, builder.info.features, every)]
                stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))


def _episodes(builder: Any, split: str) -> Iterator[Any]:
    """Yield episodes in file order, pictures still encoded, everything else decoded by TFDS."""
    import tensorflow_datasets as tfds

    images = {name: tfds.decode.SkipDecoding() for name in _images(builder.info.features)}
    decoders = {"steps": {"observation": images}} if images else None
    reading = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    yield from builder.as_dataset(split=split, decoders=decoders, read_config=reading, shuffle_files=False)


def _images(features: Any) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    steps = features["steps"].feature
    observation = steps["observation"] if "observation" in steps else {}  # noqa: SIM401  it has no get
    return {name: leaf for name, leaf in observation.items() if isinstance(leaf, tfds.features.Image)}


def _rows(episode: Any, features: Any, every: int) -> Iterator[dict[str, Any]]:
    count = int(episode["steps"].cardinality().numpy())
    whole = next(iter(episode["steps"].batch(max(count, 1)))) if count else {}
    for name, value in episode["episode_metadata"].items():
        yield _value(f"episode_metadata/{name}", value.numpy())
    images = _images(features)
    for key, value in _flat(whole, "steps"):
        name = key.rpartition("/")[2]
        if not key.startswith("steps/observation/") or name not in images:
            yield _value(key, value.numpy())
            continue
        for step in range(0, count, every):
            picture = images[name].decode_example(value[step]).numpy()
            yield _row(key, "encoded", value[step].numpy(), step)
            yield _row(key, "decoded", picture.tobytes(), step, str(picture.dtype), list(picture.shape))


def _flat(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}/{name}")
        else:
            yield f"{path}/{name}", value


def _value(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bytes):
        return _row(key, "text", json.dumps([value.decode()]).encode())
    if value.dtype == object:
        return _row(key, "text", json.dumps([text.decode() for text in value]).encode())
    return _row(key, "array", value.tobytes(), -1, str(value.dtype), list(value.shape))


def _row(key: str, kind: str, data: bytes, step: int = -1, dtype: str = "", shape: list[int] | None = None) -> dict[str, Any]:
    return {"key": key, "kind": kind, "step": step, "dtype": dtype, "shape": shape or [], "data": data}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
