"""Dense annotations (latent actions, gaze, residuals) on their way out: as features of every step. Side tables: `side_tables`.

A side table's numbers hold for the steps of each row's span. As a feature they are laid out per step, NaN where no valid row covers
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.shards.reader import Shard, open_shard
from pipelines.shards.track import Track
from schemas.annotation import SPAN_COLUMNS
from schemas.contract import Contract, Feature
from schemas.errors import UsageError
from schemas.shards import TrackInfo

CACHED = 8


@dataclass(frozen=True, slots=True)
class Dense:
    """One annotator's numeric columns for one shard. `uri` is empty where the shard has not been annotated."""

    annotator: str
    uri: str
    features: tuple[Feature, ...]


def find_dense(catalog: Catalog, annotators: Sequence[str], rows: pl.DataFrame) -> dict[str, tuple[Dense, ...]]:
    """Return, per shard of `rows` (of the `episodes` table), the numeric columns of each annotator's newest side table.

    Raises:
        UsageError: an annotator has no side table for any of the episodes, or no numeric column.
    """
    shards = rows["shard"].unique().sort().to_list()
    found: dict[str, tuple[Dense, ...]] = dict.fromkeys(shards, ())
    listed = catalog.latest("annotations").sort("committed_ns", descending=True).collect()
    for name in annotators:
        mine = listed.filter((pl.col("annotator") == name) & pl.col("shard").is_in(shards)).unique("shard", keep="first")
        if mine.is_empty():
            known = ", ".join(listed["annotator"].unique().sort().to_list()) or "none"
            raise UsageError(f"none of the episodes is annotated by {name!r}; run `cotrain annotate`, known here: {known}")
        uris = dict(mine.sort("shard").select("shard", "uri").iter_rows())
        features = _features(catalog.lake, name, next(iter(uris.values())))
        if not features:
            raise UsageError(f"{name!r} has no numeric columns to export as features; ask for its side table with --tables-of")
        for shard in shards:
            found[shard] += (Dense(name, uris.get(shard, ""), features),)
    return found


def with_features(contract: Contract, dense: Sequence[Dense]) -> Contract:
    """Return the contract with the annotations' features at the end."""
    return replace(contract, features=(*contract.features, *(f for d in dense for f in d.features)))


@lru_cache(maxsize=CACHED)
def open_annotated(lake: Lake, dataset: str, shard: str, dense: tuple[Dense, ...]) -> Shard:
    """Return a shard whose steps carry the annotations' columns as well."""
    return AnnotatedShard(lake, dataset, shard, dense)


@dataclass(frozen=True)
class AnnotatedShard(Shard):
    """A shard with more columns in its steps. Build it through `open_annotated`."""

    dense: tuple[Dense, ...] = ()

    @cached_property
    def _inner(self) -> Shard:
        return open_shard(self.lake, self.dataset, self.shard)

    @cached_property
    def contract(self) -> Contract:
        """The shard's contract with the annotations' features."""
        return with_features(self._inner.contract, self.dense)

    @cached_property
    def steps(self) -> pa.Table:
        """Every step of every episode, the annotations' columns last."""
        table, rows = (
            self._inner.steps,
            {e: (self._inner.first_row(e), len(self._inner.episode_steps(e))) for e in self.episode_ids},
        )
        for dense in self.dense:
            for feature, values in zip(dense.features, _columns(self.lake, dense, rows, table.num_rows), strict=True):
                flat = pa.array(values.reshape(-1))
                column = flat if feature.size == 1 else pa.FixedSizeListArray.from_arrays(flat, feature.size)
                table = table.append_column(feature.name, column)
        return table

    @property
    def episode_ids(self) -> list[str]:
        """Episodes in file order."""
        return self._inner.episode_ids

    @cached_property
    def streams(self) -> pa.Table:
        """Every sample of every irregular signal."""
        return self._inner.streams

    @cached_property
    def tracks(self) -> dict[tuple[str, str], TrackInfo]:
        """`(episode_id, camera)` to what the packets file holds of it."""
        return self._inner.tracks

    def track(self, episode_id: str, camera: str) -> Track:
        """Return the packets of one camera of one episode."""
        return self._inner.track(episode_id, camera)


def _features(lake: Lake, annotator: str, uri: str) -> tuple[Feature, ...]:
    table = _read(lake, uri)
    own = [n for n in table.column_names if n not in {f.name for f in SPAN_COLUMNS}]
    features: list[Feature] = []
    for name in own:
        width = _width(table, name)
        if width:
            features.append(Feature(f"annotation.{annotator}.{name}", "float32", (width,)))
    return tuple(features)


def _width(table: pa.Table, name: str) -> int:
    """Return the numbers per row of a column; 0 where it holds none, or a changing count of them."""
    kind = table.schema.field(name).type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return 1
    if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type):
        return int(kind.list_size)
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_floating(kind.value_type):
        widths = set(pa.compute.list_value_length(table.filter(table.column("valid")).column(name)).unique().to_pylist())
        return int(widths.pop() or 0) if len(widths) == 1 else 0
    return 0


def _columns(lake: Lake, dense: Dense, rows: Mapping[str, tuple[int, int]], count: int) -> list[npt.NDArray[np.float32]]:
    """Lay each feature out per step of the shard, float32[count, D]; of overlapping rows the later one holds."""
    columns = [np.full((count, f.size), np.nan, np.float32) for f in dense.features]
    if not dense.uri:
        return columns
    table = _read(lake, dense.uri)
    table = table.filter(table.column("valid"))
    names = table.column("episode_id").cast(pa.string()).to_pylist()
    spans = [table.column(n).to_numpy() for n in ("start_step", "end_step")]
    values = [_matrix(table.column(f.name.rsplit(".", 1)[1]), f.size) for f in dense.features]
    for at, (episode, start, stop) in enumerate(zip(names, *spans, strict=True)):
        if episode in rows:
            first, length = rows[episode]
            span = slice(first + int(start), first + min(int(stop), length))
            for column, value in zip(columns, values, strict=True):
                column[span] = value[at]
    return columns


def _matrix(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.float32]:
    whole: Any = column.combine_chunks()
    if not pa.types.is_nested(whole.type):
        return whole.cast(pa.float32()).to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
    made = np.full((len(whole), width), np.nan, np.float32)  # a valid row may say nothing in one of its columns
    told = whole.drop_null().flatten().to_numpy(zero_copy_only=False)
    made[whole.is_valid().to_numpy(zero_copy_only=False)] = told.astype(np.float32).reshape(-1, width)
    return made


def _read(lake: Lake, uri: str) -> pa.Table:
    with lake.fs.open(lake.path(uri), "rb") as file:
        return pq.read_table(file)
