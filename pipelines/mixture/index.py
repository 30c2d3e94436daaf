"""A mixture's index: one row per episode, from which an item number becomes an episode and a step. Schema: `schemas.mixture.INDEX`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from blake3 import blake3

from schemas.mixture import INDEX

I64 = npt.NDArray[np.int64]
Split = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where one episode lies."""

    source: str
    split: Split
    episode_id: str
    dataset: str
    shard: str
    first_row: int
    steps: int


@dataclass(frozen=True)
class Index:
    """The rows of `index.arrow`, ordered by source (as in the spec), split (train first), dataset, shard and row."""

    table: pa.Table

    def __len__(self) -> int:
        """Number of rows."""
        return self.table.num_rows

    def row(self, number: int) -> IndexRow:
        """Return one row."""
        values = [self.table.column(name)[number].as_py() for name in INDEX.names[:-1]]
        return IndexRow(*values)

    def find(self, source: str, split: Split, items: I64) -> tuple[I64, I64]:
        """Return for each item of `(source, split)` its row of the index and its step in the episode, both int64[n].

        Raises:
            IndexError: there is no such item.
        """
        first, offsets = self._offsets.get((source, split), (0, np.zeros(1, np.int64)))
        if len(items) and (items.min() < 0 or items.max() >= offsets[-1]):
            raise IndexError(
                f"source {source} has {offsets[-1]} {split} items, not {items.max() if items.min() >= 0 else items.min()}"
            )
        place = np.searchsorted(offsets, items, side="right") - 1
        return first + place, items - offsets[place]

    def items(self, source: str, split: Split) -> int:
        """Number of steps of `(source, split)`."""
        return int(self._offsets[source, split][1][-1]) if (source, split) in self._offsets else 0

    def episodes(self, source: str, split: Split) -> int:
        """Number of episodes of `(source, split)`."""
        return len(self._offsets[source, split][1]) - 1 if (source, split) in self._offsets else 0

    def frame(self) -> pl.DataFrame:
        """Return the rows as a polars frame."""
        frame = pl.from_arrow(self.table)
        assert isinstance(frame, pl.DataFrame)
        return frame.with_columns(pl.col("source", "split", "dataset", "shard").cast(pl.String))

    def digest(self) -> str:
        """Hash what the rows say, however Arrow stores them."""
        hasher = blake3()
        for name in INDEX.names:
            hasher.update(name.encode() + b"\0")
            for part in _bytes(self.table.column(name)):
                hasher.update(part)
        return hasher.hexdigest()

    @cached_property
    def _offsets(self) -> dict[tuple[str, Split], tuple[int, I64]]:
        """Per (source, split): its first row, and the offsets int64[episodes + 1] of its episodes' items."""
        if not len(self):
            return {}
        keys = [self.table.column(n).combine_chunks() for n in ("source", "split")]
        codes = [np.asarray(k.indices) for k in keys]
        names = [k.dictionary.to_pylist() for k in keys]
        steps = self.table.column("steps").to_numpy()
        change = (np.diff(codes[0]) != 0) | (np.diff(codes[1]) != 0)
        bounds = [0, *(np.flatnonzero(change) + 1).tolist(), len(self)]
        found: dict[tuple[str, Split], tuple[int, I64]] = {}
        for start, stop in pairwise(bounds):
            key: Any = (names[0][codes[0][start]], names[1][codes[1][start]])
            found[key] = (start, np.concatenate([[0], np.cumsum(steps[start:stop])]).astype(np.int64))
        return found


def _bytes(column: pa.ChunkedArray) -> tuple[bytes, bytes]:
    """Return a column's integers, or the lengths of its strings and their bytes: free of Arrow's chunks, offsets and dictionaries."""
    if pa.types.is_integer(column.type):
        return column.to_numpy().astype("<i8").tobytes(), b""
    strings = column.cast(pa.large_string()).combine_chunks()
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    return np.diff(ends).astype("<i8").tobytes(), memoryview(data or b"")[ends[0] : ends[-1]].tobytes()


def build_index(parts: Sequence[tuple[str, Split, pl.DataFrame]]) -> Index:
    """Build the index of `(source, split, rows of the episodes table)` parts, in that order."""
    frames = [
        rows.select(
            source=pl.lit(source, pl.String), split=pl.lit(split, pl.String), episode_id="episode_id", dataset="dataset", shard="shard",
            first_row=pl.col("first_row").cast(pl.Int64), steps=pl.col("steps").cast(pl.Int64),
            item_offset=(pl.col("steps").cum_sum() - pl.col("steps")).cast(pl.Int64),
        )
        for source, split, rows in parts
    ]  # fmt: skip
    frames = [f for f in frames if len(f)]
    if not frames:
        return Index(INDEX.empty_table())
    plain = pl.concat(frames).to_arrow()
    columns: list[Any] = []
    for field in INDEX:
        column = plain.column(field.name)
        coded = pa.types.is_dictionary(field.type)
        columns.append(column.cast(pa.string()).combine_chunks().dictionary_encode() if coded else column.cast(field.type))
    return Index(pa.table(columns, schema=INDEX))
