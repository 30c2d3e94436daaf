"""The data parquet files of one group: each is read once, then cut into episodes that are checked against their metadata."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.shards.draft import I64
from pipelines.sources.base import inside
from pipelines.sources.lerobot.info import INDEX_COLUMNS, Info
from pipelines.sources.lerobot.rows import EpisodeRow
from schemas.contract import Feature
from schemas.errors import (
    ContractError,
    CorruptMediaError,
    DataError,
    LengthMismatchError,
    MalformedSourceError,
    MissingFileError,
)

GRID_S = 1e-4  # LeRobot's own tolerance between a timestamp and frame / fps
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Loaded:
    table: pa.Table
    spans: dict[int, list[tuple[int, int]]]  # episode -> runs of rows [start, stop)


class DataFiles:
    """Reads the parquet files that a group's `rows` name. A file that cannot be read fails every episode in it, no other."""

    def __init__(self, info: Info, rows: Sequence[EpisodeRow]) -> None:
        self._info = info
        self._wanted: dict[str, list[int]] = {}
        for row in rows:
            self._wanted.setdefault(row.data, []).append(row.index)
        self._loaded: dict[str, _Loaded | DataError] = {}

    def episode(self, row: EpisodeRow) -> pa.Table:
        """Return one episode's rows, every declared column present and the index columns as the metadata says.

        Raises:
            MissingFileError: the file is not there.
            CorruptMediaError: it is not readable parquet.
            ContractError: a declared column is absent.
            LengthMismatchError: it holds another number of rows than the metadata says.
            MalformedSourceError: `index` or `frame_index` contradict the metadata.
        """
        path = inside(self._info.root, row.data)
        loaded = self._load(row.data, path)
        declared = [*INDEX_COLUMNS, *self._info.columns.values(), *self._info.languages]
        declared += [c.key for c in self._info.cameras if c.storage == "image"]
        if absent := [c for c in declared if c not in loaded.table.column_names]:
            raise ContractError(f"{path} lacks column {absent[0]!r}, which info.json declares", uri=str(path))
        runs = loaded.spans.get(row.index, [])
        count = sum(stop - start for start, stop in runs)
        if count != row.length or row.stop - row.first != row.length:
            raise LengthMismatchError(
                f"{path} holds {count} rows of episode {row.index}; its metadata says length {row.length} and rows "
                f"{row.first} to {row.stop}",
                uri=str(path),
            )
        if len(runs) > 1:
            raise MalformedSourceError(
                f"{path}: the rows of episode {row.index} are scattered over {len(runs)} places", uri=str(path)
            )
        start, stop = runs[0] if runs else (0, 0)
        table = loaded.table.slice(start, stop - start)
        _check_index(table, row, path)
        return table

    def extra_columns(self, row: EpisodeRow) -> list[str]:
        """List columns that the file has and the declaration has not; they are left out."""
        loaded = self._loaded.get(row.data)
        known = {*INDEX_COLUMNS, *self._info.columns.values(), *self._info.languages, *(c.key for c in self._info.cameras)}
        return [c for c in loaded.table.column_names if c not in known] if isinstance(loaded, _Loaded) else []

    def _load(self, name: str, path: Path) -> _Loaded:
        if name not in self._loaded:
            try:
                self._loaded[name] = _read(path, self._wanted[name])
            except DataError as error:
                self._loaded[name] = error
        found = self._loaded[name]
        if isinstance(found, DataError):
            raise found
        return found


def feature_values(table: pa.Table, column: str, feature: Feature, uri: str) -> npt.NDArray[Any] | list[Any]:
    """Return a feature's column as [T, *shape] of the declared dtype (list of str for strings).

    Raises:
        ContractError: empty cells, or another number of values per step than declared.
    """
    chunked = table.column(column)
    if chunked.null_count:
        raise ContractError(f"{uri}: column {column!r} has {chunked.null_count} empty cells", uri=uri)
    if feature.dtype == "string":
        return chunked.to_pylist()
    flat = np.concatenate([flat_values(chunk) for chunk in chunked.chunks]) if chunked.num_chunks else np.empty(0)
    if flat.size != len(chunked) * feature.size:
        raise ContractError(
            f"{uri}: column {column!r} holds {flat.size} values in {len(chunked)} rows; info.json declares shape {feature.shape}",
            uri=uri,
        )
    return flat.reshape(len(chunked), *feature.shape).astype(feature.dtype, copy=False)


def stored_dtype(table: pa.Table, column: str) -> str:
    """Name the scalar type a column is stored as, for example `float` or `double`."""
    kind = table.schema.field(column).type
    while not pa.types.is_primitive(kind) and kind.num_fields:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return str(kind)


def step_times(table: pa.Table, fps: float) -> I64:
    """Return the steps' clock, int64[T] ns: `timestamp`, snapped to the frame / fps grid where the whole episode lies on it.

    Timestamps are stored as float32, so beyond 1024 s the tolerance widens to what that type can say.
    """
    stamps = table.column("timestamp").to_numpy().astype(np.float64)
    steps = np.arange(len(stamps))
    slack = max(GRID_S, float(np.spacing(np.float32(np.abs(stamps).max(initial=0.0)))))
    if not np.isfinite(stamps).all():
        raise ContractError("column 'timestamp' holds values that are not finite")
    if (np.abs(stamps - steps / fps) <= slack).all():
        return grid_ns(len(stamps), fps)
    return np.round(stamps * SECOND).astype(np.int64)


def grid_ns(count: int, fps: float) -> I64:
    """Return the nanosecond nearest to n / fps for n below `count`, int64[count]; exact for whole frame rates."""
    if float(fps).is_integer():
        rate = int(fps)
        return (np.arange(count, dtype=np.int64) * SECOND + rate // 2) // rate
    return np.round(np.arange(count) * (SECOND / fps)).astype(np.int64)


def _read(path: Path, episodes: Iterable[int]) -> _Loaded:
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist, although meta/episodes names it", uri=str(path))
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_groups(_row_groups(file, list(episodes)))
    except (pa.ArrowException, OSError) as error:
        raise CorruptMediaError(f"{path} is not a readable parquet file: {error}", uri=str(path)) from error
    spans: dict[int, list[tuple[int, int]]] = {}
    if "episode_index" in table.column_names and table.num_rows:
        owner = table.column("episode_index").to_numpy()
        cuts = np.flatnonzero(np.diff(owner)) + 1
        for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(owner)], strict=True):
            spans.setdefault(int(owner[start]), []).append((start, stop))
    return _Loaded(table, spans)


def _row_groups(file: pq.ParquetFile, episodes: list[int]) -> list[int]:
    """Choose the row groups that may hold any of `episodes`, by their statistics; all of them where there are none."""
    names, meta = file.schema_arrow.names, file.metadata
    leaves = [meta.schema.column(i).path for i in range(meta.num_columns)]
    everything = list(range(meta.num_row_groups))
    if "episode_index" not in names or "episode_index" not in leaves:
        return everything
    column, wanted = leaves.index("episode_index"), np.array(sorted(episodes))

    def holds(group: int) -> bool:
        known = meta.row_group(group).column(column).statistics
        if known is None or not known.has_min_max:
            return True
        low, high = np.searchsorted(wanted, [known.min, known.max + 1])
        return bool(high > low)

    return [g for g in everything if holds(g)]


def _check_index(table: pa.Table, row: EpisodeRow, path: Path) -> None:
    for column, first in (("index", row.first), ("frame_index", 0)):
        found = table.column(column).to_numpy()
        wrong = np.flatnonzero(found != np.arange(first, first + len(found)))
        if len(wrong):
            at = int(wrong[0])
            raise MalformedSourceError(
                f"{path}: {column} of episode {row.index} is {found[at]} at its row {at}; by its metadata it is {first + at}",
                uri=str(path),
            )


def flat_values(chunk: pa.Array) -> npt.NDArray[Any]:
    """Flatten nested lists (and LeRobot's Array2D..5D extension type) to one dimension."""
    while True:
        if isinstance(chunk, pa.ExtensionArray):
            chunk = chunk.storage
        elif pa.types.is_nested(chunk.type):
            chunk = chunk.flatten()
        else:
            return chunk.to_numpy(zero_copy_only=False)
