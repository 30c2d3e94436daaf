"""Caches read back: files mapped, columns as arrays, rows found by episode, frame and draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.residuals.drawing import noise_of
from schemas.errors import LakeError, UsageError
from schemas.residuals import SPARSE, CachedEpisode, CacheHeader, CacheShape

I64 = npt.NDArray[np.int64]
type Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CacheFile:
    """One file of a cache."""

    uri: str
    header: CacheHeader
    table: pa.Table

    @cached_property
    def columns(self) -> Columns:
        """Every fixed-size column of the rows as an array on the mapped memory: vectors [n, H, A], padding bool[n, H]."""
        return {name: _array(self.table, name, self.header.shape) for name in self.table.column_names if name not in SPARSE}

    @cached_property
    def shared(self) -> Columns:
        """What the draws of a frame share, one row per frame: `action` [frames, H, A], `context` [frames, C]."""
        shape, found = self.header.shape, dict[str, npt.NDArray[Any]]()
        for name in (n for n in self.table.column_names if n in SPARSE and n != "audit_fp32"):
            _, flat = _filled(self.table, name)
            found[name] = flat.reshape(len(flat), shape.horizon, shape.action_dim) if name == "action" else flat
        return found

    @cached_property
    def audited(self) -> tuple[I64, npt.NDArray[np.float32]]:
        """The rows whose float32 values were kept, and these values [n, 2 * H * A]."""
        if "audit_fp32" not in self.table.column_names:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        return _filled(self.table, "audit_fp32")


@dataclass(frozen=True)
class Cache:
    """The current rows of one cache, numbered through: segment after segment, each an episode of a file."""

    teacher: str
    key: str
    files: tuple[CacheFile, ...]
    segments: tuple[tuple[int, CachedEpisode], ...]

    @property
    def header(self) -> CacheHeader:
        """What all files have in common."""
        return self.files[0].header

    @property
    def shape(self) -> CacheShape:
        """What vectors hold."""
        return self.header.shape

    @cached_property
    def offsets(self) -> I64:
        """First row of every segment, and the number of rows behind them."""
        return np.concatenate([[0], np.cumsum([e.frames * self.header.draws for _, e in self.segments])]).astype(np.int64)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.offsets[-1])

    @cached_property
    def episodes(self) -> dict[str, int]:
        """Segment of each episode, by id."""
        return {e.episode_id: i for i, (_, e) in enumerate(self.segments)}

    def row(self, episode_id: str, frame: int, draw: int) -> int | None:
        """Return a row's number; None where the cache does not hold it."""
        segment = self.episodes.get(episode_id)
        if segment is None:
            return None
        episode = self.segments[segment][1]
        place, rest = divmod(frame - episode.first, self.header.stride)
        if rest or not 0 <= place < episode.frames or not 0 <= draw < self.header.draws:
            return None
        return int(self.offsets[segment]) + place * self.header.draws + draw

    def take(self, rows: npt.ArrayLike, names: Sequence[str] | None = None) -> Columns:
        """Return columns of some rows, in their order; `action`, `context` and `noise` are found where they are, or made again.

        Raises:
            UsageError: the cache has no such column.
        """
        wanted = np.asarray(rows, np.int64)
        known = [*self.files[0].columns, *self.files[0].shared]
        names = list(self.files[0].columns) if names is None else list(names)
        if unknown := [n for n in names if n not in (*known, "noise")]:
            raise UsageError(f"the cache of {self.teacher} has no column {', '.join(unknown)}; it has {', '.join(known)}")
        owner, local = self._located(wanted)
        return {name: self._gather(name, owner, local) for name in names}

    def audited(self, row: int) -> npt.NDArray[np.float32] | None:
        """Return the float32 values of a row, [2 * H * A]; None where they were not kept."""
        (owner,), (local,) = self._located(np.array([row], np.int64))
        rows, values = self.files[owner].audited
        place = np.searchsorted(rows, local)
        return values[place] if place < len(rows) and rows[place] == local else None

    def episode_of(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the segment, that is the episode, of each row."""
        return np.searchsorted(self.offsets, np.asarray(rows, np.int64), side="right") - 1

    def _located(self, rows: I64) -> tuple[I64, I64]:
        """Return the file of each row, and its number in it."""
        segment = self.episode_of(rows)
        return self._owners[segment], rows - self.offsets[segment] + self._starts[segment]

    @cached_property
    def _starts(self) -> I64:
        return np.array([e.start_row for _, e in self.segments], np.int64)

    @cached_property
    def _owners(self) -> I64:
        return np.array([f for f, _ in self.segments], np.int64)

    def _gather(self, name: str, owner: I64, local: I64) -> npt.NDArray[Any]:
        if name == "noise" and name not in self.files[0].columns:
            seeds = self._gather("seed", owner, local)
            return noise_of(seeds, self.shape.horizon, self.shape.width, self.shape.action_dim)
        sources = [f.columns[name] if name in f.columns else f.shared[name] for f in self.files]
        place = local if name in self.files[0].columns else local // self.header.draws
        owners = np.unique(owner)
        if len(owners) == 1:
            return sources[int(owners[0])][place]
        out = np.empty((len(owner), *sources[0].shape[1:]), sources[0].dtype)
        for number in owners.tolist():
            mine = owner == number
            out[mine] = sources[number][place[mine]]
        return out


def open_cache(
    lake: Lake,
    teacher: str,
    key: str | None = None,
    wanted: Mapping[str, str] | None = None,
    contents: Mapping[str, tuple[str, str]] | None = None,
) -> Cache:
    """Open a cache.

    Args:
        lake: where it is.
        teacher: its teacher's id.
        key: its key, or the beginning of it; None: the teacher's only one.
        wanted: sub-key per episode id; None: of each episode what was committed last.
        contents: content hash and contract digest per episode id: rows of other recordings, or read otherwise, are left out.

    Raises:
        UsageError: there is no such cache, or the beginning of a key fits several.
        LakeError: a file is missing or not what the catalog says.
    """
    rows = Catalog(lake).latest("residuals").filter(pl.col("teacher") == teacher).sort("committed_ns").collect()
    keys = rows["cache_key"].unique(maintain_order=True).to_list()
    fitting = [k for k in keys if k.startswith(key or "")]
    if len(fitting) != 1:
        known = f"it has {', '.join(k[:12] for k in keys)}" if keys else "nothing is cached for it"
        raise UsageError(f"{len(fitting)} caches of teacher {teacher!r} fit {key or 'no key'!r}; {known}. See `cotrain cache ls`")
    rows = rows.filter(pl.col("cache_key") == fitting[0])
    files: list[CacheFile] = []
    found: dict[str, tuple[int, CachedEpisode]] = {}
    for uri in rows["uri"].to_list():
        table = read_ipc(lake, uri)
        file = CacheFile(uri, CacheHeader.from_metadata(table.schema.metadata, lake.path(uri)), table)
        for episode in file.header.episodes:
            known = contents is None or contents.get(episode.episode_id) == (episode.content_hash, episode.contract)
            if known and (wanted is None or wanted.get(episode.episode_id) == episode.key):
                found[episode.episode_id] = (len(files), episode)
        files.append(file)
    if not found:
        raise UsageError(f"the cache of {teacher!r} holds none of these episodes as they are now; run `cotrain cache` again")
    return Cache(teacher, fitting[0], tuple(files), tuple(found.values()))


def read_ipc(lake: Lake, uri: str) -> pa.Table:
    """Map an Arrow file of the lake; a remote one is fetched once into the local cache of ranges.

    Raises:
        LakeError: it is missing or incomplete.
    """
    path = lake.path(uri)
    try:
        if lake.is_local:
            source: Any = pa.memory_map(path.removeprefix("file://"))
        else:
            from pipelines.shards.remote import default_cache

            source = pa.BufferReader(default_cache().get(lake, path, 0, lake.fs.size(path)))
        return pa.ipc.open_file(source).read_all()
    except FileNotFoundError as error:
        raise LakeError(
            f"{path} is missing although the catalog names it; make it again with `cotrain cache --repair`"
        ) from error
    except pa.ArrowInvalid as error:
        raise LakeError(f"{path} is not a complete Arrow file ({error}); make it again with `cotrain cache --repair`") from error


def _filled(table: pa.Table, name: str) -> tuple[I64, npt.NDArray[np.float32]]:
    """Return the rows in which a sparse column says something, and what, [n, length]; on the mapped memory."""
    column: Any = table.column(name).combine_chunks()
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    flat = column.values.to_numpy()  # nulls take no room
    return rows, flat.reshape(len(rows), -1) if len(rows) else np.empty((0, 0), np.float32)


def _array(table: pa.Table, name: str, shape: CacheShape) -> npt.NDArray[Any]:
    column = table.column(name)
    held: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_fixed_size_binary(held.type):
        packed = np.frombuffer(held.buffers()[1], np.uint8)[: len(held) * held.type.byte_width].reshape(len(held), -1)
        return np.unpackbits(packed, axis=1, count=shape.horizon, bitorder="little").astype(bool)
    if not pa.types.is_fixed_size_list(held.type):
        return held.to_numpy()
    flat = held.values.to_numpy(zero_copy_only=True).reshape(len(held), -1)
    trailing = _trailing(name, shape)
    return flat.reshape(len(held), *trailing) if trailing else flat


def _trailing(name: str, shape: CacheShape) -> tuple[int, ...]:
    match name:
        case "token_ids" | "token_logp":
            return (shape.tokens, shape.top_k)
        case "hidden":
            return shape.hidden
        case "rest_logp" | "context":
            return ()
        case _:
            return (shape.horizon, shape.action_dim)
