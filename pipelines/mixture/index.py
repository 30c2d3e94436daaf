"""A mixture's index: one row per episode, from which an item number becomes an episode and a step. Schema: `schemas.mixture.INDEX`.

With weights there is one row per run of steps of equal weight, and the items are copies of steps, see `transforms.resampling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from schemas.mixture import INDEX, WEIGHTED_INDEX
from transforms.resampling import UNIT, Copies, drawn_start

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
        values = [self.table.column(name)[number].as_py() for name in INDEX.names[:-1]]  # all but its offset
        return IndexRow(*values)

    def find(self, source: str, split: Split, items: I64) -> tuple[I64, I64]:
        """Return for each item of `(source, split)` its row of the index and its step in the episode, both int64[n].

        Raises:
            IndexError: there is no such item.
        """
        part = self._parts.get((source, split), _NOTHING)
        if len(items) and (items.min() < 0 or items.max() >= len(part)):
            raise IndexError(
                f"source {source} has {len(part)} {split} items, not {items.max() if items.min() >= 0 else items.min()}"
            )
        row, step = part.find(items)
        return part.first + row, step

    def steps_between(self, number: int, start: int, stop: int) -> tuple[int, int]:
        """Return the steps `[first, end)` of a row that its items from `start` to before `stop` show; the row holds one of them."""
        part = self._part_of(number)
        bounds = part.bounds(number - part.first)
        ends = np.array([max(start, bounds[0]), min(stop, bounds[1]) - 1])
        first, last = part.find(ends)[1].tolist()
        return first, last + 1

    def loss_weight(self, number: int, step: int) -> np.float32:
        """Return the weight over the multiplicity of a step of a row; 1 in a mixture without weights."""
        part = self._part_of(number)
        if part.copies is None:
            return np.float32(1)
        row = number - part.first
        return np.float32(part.copies.weights[row] / UNIT / max(int(part.copies.count(row, step)), 1))

    @property
    def is_weighted(self) -> bool:
        """Whether steps have weights."""
        return "weight" in self.table.column_names

    def items(self, source: str, split: Split) -> int:
        """Number of steps of `(source, split)`."""
        return len(self._parts.get((source, split), _NOTHING))

    def row_items(self, source: str, split: Split) -> I64:
        """Return how many items each row of `(source, split)` holds, int64[rows]."""
        part = self._parts.get((source, split))
        return np.diff(part.offsets) if part else np.zeros(0, np.int64)

    def dataset_items(self, split: Split) -> pl.DataFrame:
        """Return `source`, `dataset`, the items of each pair, and those of its source, ordered by both names."""
        frame = self.frame().filter(pl.col("split") == split)
        counts = [self.row_items(name, split) for name in frame["source"].unique(maintain_order=True)]
        items = pl.Series("items", np.concatenate(counts) if counts else np.zeros(0, np.int64))
        pairs = frame.with_columns(items).group_by("source", "dataset").agg(pl.col("items").sum()).sort("source", "dataset")
        return pairs.with_columns(total=pl.col("items").sum().over("source"))

    def episodes(self, source: str, split: Split) -> int:
        """Number of episodes of `(source, split)`."""
        part = self._parts.get((source, split))
        if part is None:
            return 0
        ids = self.table.column("episode_id").slice(part.first, len(part.offsets) - 1)
        return int(pc.count_distinct(ids).as_py()) if self.is_weighted else len(ids)

    def frame(self) -> pl.DataFrame:
        """Return the rows as a polars frame."""
        frame = pl.from_arrow(self.table)
        assert isinstance(frame, pl.DataFrame)
        return frame.with_columns(pl.col("source", "split", "dataset", "shard").cast(pl.String))

    def digest(self) -> str:
        """Hash what the rows say, however Arrow stores them."""
        hasher = blake3()
        for name in self.table.column_names:
            hasher.update(name.encode() + b"\0")
            for part in _bytes(self.table.column(name)):
                hasher.update(part)
        return hasher.hexdigest()

    def _part_of(self, number: int) -> "_Part":
        firsts = self._firsts
        return firsts[max(k for k in firsts if k <= number)]

    @cached_property
    def _firsts(self) -> dict[int, "_Part"]:
        return {part.first: part for part in self._parts.values()}

    @cached_property
    def _parts(self) -> dict[tuple[str, Split], "_Part"]:
        """The rows of each (source, split)."""
        if not len(self):
            return {}
        keys = [self.table.column(n).combine_chunks() for n in ("source", "split")]
        codes = [np.asarray(k.indices) for k in keys]
        names = [k.dictionary.to_pylist() for k in keys]
        steps = self.table.column("steps").to_numpy()
        weights = self.table.column("weight").to_numpy() if self.is_weighted else None
        change = (np.diff(codes[0]) != 0) | (np.diff(codes[1]) != 0)
        bounds = [0, *(np.flatnonzero(change) + 1).tolist(), len(self)]
        found: dict[tuple[str, Split], _Part] = {}
        for start, stop in pairwise(bounds):
            key: Any = (names[0][codes[0][start]], names[1][codes[1][start]])
            copies = None if weights is None else Copies(steps[start:stop], weights[start:stop], _start(*key))
            offsets = np.concatenate([[0], np.cumsum(steps[start:stop])]).astype(np.int64) if copies is None else copies.firsts
            found[key] = _Part(start, offsets, copies)
        return found


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows of one source and split: the number of the first, the items before each and the end, and their copies, if any."""

    first: int
    offsets: I64
    copies: Copies | None = None

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def find(self, items: I64) -> tuple[I64, I64]:
        if self.copies is not None:
            return self.copies.find(items)
        row = np.searchsorted(self.offsets, items, side="right") - 1
        return row, items - self.offsets[row]

    def bounds(self, row: int) -> tuple[int, int]:
        return int(self.offsets[row]), int(self.offsets[row + 1])


_NOTHING = _Part(0, np.zeros(1, np.int64))


def _start(source: str, split: Split) -> int:
    return drawn_start(source) if split == "train" else 0


def _bytes(column: pa.ChunkedArray) -> tuple[bytes, bytes]:
    """Return a column's integers, or the lengths of its strings and their bytes: free of Arrow's chunks, offsets and dictionaries."""
    if pa.types.is_integer(column.type):
        return column.to_numpy().astype("<i8").tobytes(), b""
    strings = column.cast(pa.large_string()).combine_chunks()
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    return np.diff(ends).astype("<i8").tobytes(), memoryview(data or b"")[ends[0] : ends[-1]].tobytes()


def build_index(parts: Sequence[tuple[str, Split, pl.DataFrame]]) -> Index:
    """Build the index of `(source, split, rows of the episodes table)` parts, in that order; weighted where some part is."""
    weighted = any("weight" in rows.columns for _, _, rows in parts)
    schema = WEIGHTED_INDEX if weighted else INDEX
    frames = [_plain(source, split, rows, weighted=weighted) for source, split, rows in parts if len(rows)]
    if not frames:
        return Index(schema.empty_table())
    plain = pl.concat(frames).to_arrow()
    columns: list[Any] = []
    for field in schema:
        column = plain.column(field.name)
        coded = pa.types.is_dictionary(field.type)
        columns.append(column.cast(pa.string()).combine_chunks().dictionary_encode() if coded else column.cast(field.type))
    return Index(pa.table(columns, schema=schema))


def _plain(source: str, split: Split, rows: pl.DataFrame, *, weighted: bool) -> pl.DataFrame:
    found = rows.select(
        source=pl.lit(source, pl.String), split=pl.lit(split, pl.String), episode_id="episode_id", dataset="dataset", shard="shard",
        first_row=pl.col("first_row").cast(pl.Int64), steps=pl.col("steps").cast(pl.Int64),
        item_offset=(pl.col("steps").cum_sum() - pl.col("steps")).cast(pl.Int64),
    )  # fmt: skip
    if not weighted:
        return found
    weight = rows["weight"] if "weight" in rows.columns else pl.repeat(UNIT, len(rows), dtype=pl.Int64, eager=True)
    copies = Copies(found["steps"].to_numpy(), weight.to_numpy(), _start(source, split))
    return found.with_columns(item_offset=pl.Series(copies.firsts[:-1]), weight=weight)
