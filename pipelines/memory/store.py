"""Memories at rest: one memory-mapped Arrow file each, rows in order of id, vectors in float16."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.memory.codes import Codes, encode
from pipelines.memory.search import Found, lengths, nearest
from pipelines.publish import PublishedFile, publish, temporary_for
from schemas.errors import DataError, LakeError, UsageError
from schemas.memory import KEY, MODEL_KEY, NORM_KEY, memory_schema

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
CODES_FROM = 100_000  # rows from which encoding all of them pays


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to remember; see `schemas.memory`."""

    id: str
    vector: npt.ArrayLike
    kind: str
    episode_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    camera: str | None = None
    said: str | None = None
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Memory:
    """An opened memory. Build it with `open_memory`, or with `of` for one that is never stored."""

    table: pa.Table

    @classmethod
    def of(cls, entries: Sequence[Entry], model: str) -> Self:
        """Return a memory of entries made by the encoder with fingerprint `model`.

        Raises:
            DataError: there are none, an id occurs twice, or vectors are not finite numbers of one width.
        """
        return cls(to_table(entries, model))

    @cached_property
    def keys(self) -> F16:
        """The vectors, float16[N, D], without copying."""
        column = self.table.column(KEY)
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(chunk), -1)

    @cached_property
    def codes(self) -> Codes | None:
        """The vectors in 8 bits for a fast first pass, kept in memory; None where the processor gains nothing by it, or below `CODES_FROM` rows."""
        return encode(self.keys) if len(self) >= CODES_FROM else None

    @property
    def model(self) -> str:
        """Fingerprint of the encoder that made the vectors."""
        return (self.table.schema.metadata or {})[MODEL_KEY].decode()

    @property
    def longest(self) -> float:
        """Largest length of a vector."""
        return float((self.table.schema.metadata or {})[NORM_KEY])

    def __len__(self) -> int:
        return self.table.num_rows

    def ask(self, queries: F32, k: int, model: str, kind: str | None = None, *, once: bool = False) -> Found:
        """Return the `k` nearest rows to each query; ties are in order of id.

        Args:
            queries: float32[Q, D], made by the encoder with fingerprint `model`.
            k: how many.
            model: that fingerprint.
            kind: only rows of this kind.
            once: nothing will be asked after this, so encoding the vectors first would not pay.

        Raises:
            UsageError: another encoder made this memory's vectors, or widths differ.
        """
        if model != self.model:
            raise UsageError(
                f"this memory was made by encoder {self.model}, the query by {model}; vectors of two encoders cannot be compared"
            )
        if kind is None:
            return nearest(self.keys, queries, k, self.longest, None if once else self.codes)
        rows = np.flatnonzero(np.asarray(pa.compute.equal(self.table.column("kind"), kind)))
        found = nearest(self.keys[rows], queries, k, self.longest)
        return Found(np.where(found.rows >= 0, rows[np.maximum(found.rows, 0)] if len(rows) else -1, -1), found.scores)

    def entry(self, row: int) -> dict[str, Any]:
        """Return what a row stands for, without its vector."""
        one = self.table.drop_columns([KEY]).slice(row, 1).to_pylist()[0]
        return one | {"payload": json.loads(one["payload"] or "{}")}


def to_table(entries: Sequence[Entry], model: str) -> pa.Table:
    """Return entries as rows of a memory, in order of id; see `Memory.of`."""
    if not entries:
        raise DataError("a memory needs at least one entry")
    ordered = sorted(entries, key=lambda e: e.id)
    if twice := next((a.id for a, b in itertools.pairwise(ordered) if a.id == b.id), None):
        raise DataError(f"id {twice} occurs twice in a memory")
    vectors = [np.asarray(e.vector, np.float32) for e in ordered]
    if len({v.shape for v in vectors}) != 1 or vectors[0].ndim != 1:
        raise DataError(f"vectors of one memory need one width; found {sorted({v.shape for v in vectors})[:3]}")
    with np.errstate(over="ignore"):  # what does not fit is named below
        keys = np.stack(vectors).astype(np.float16)
    if not np.isfinite(keys).all():
        at = int(np.argmin(np.isfinite(keys).all(axis=1)))
        raise DataError(f"the vector of {ordered[at].id} is not finite in float16")
    schema = memory_schema(keys.shape[1]).with_metadata({MODEL_KEY: model.encode(), NORM_KEY: repr(lengths(keys)).encode()})
    columns: list[Any] = [
        pa.array([getattr(e, f.name) for e in ordered], f.type) for f in schema if f.name not in ("payload", KEY)
    ]
    columns.append(pa.array([json.dumps(dict(e.payload), sort_keys=True) if e.payload else None for e in ordered], pa.string()))
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(keys.reshape(-1)), keys.shape[1]))
    return pa.table(columns, schema=schema)


def write_memory(lake: Lake, table: pa.Table, target: str) -> PublishedFile:
    """Write rows of a memory to its place in the lake."""
    with temporary_for(lake, target) as path:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
            out.write_table(table.combine_chunks())
        return publish(lake, path, target)


def open_memory(lake: Lake, name: str, kind: str) -> Memory:
    """Open what the memory called `name` holds of one kind (`picture`, `text`), mapped where the lake is local.

    Raises:
        UsageError: there is none.
        LakeError: its file is missing or damaged.
    """
    listed = Catalog(lake).latest("memories").collect()
    row = listed.filter((pl.col("name") == name) & (pl.col("kind") == kind))
    if row.is_empty():
        have = [f"{n} ({k})" for n, k in listed.select("name", "kind").iter_rows()]
        raise UsageError(f"there is no memory {name!r} of kind {kind}; there are {have}. `cotrain recall --build` makes one")
    path = lake.path(str(row["uri"][0]))
    try:
        if lake.is_local:
            source: Any = pa.memory_map(path.removeprefix("file://"), "r")
        else:
            source = pa.BufferReader(lake.fs.cat_file(path))
        return Memory(pa.ipc.open_file(source).read_all())
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise LakeError(f"memory {name}: {path} cannot be read: {error}; run `cotrain verify lake`") from error
