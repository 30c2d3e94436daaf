"""Reads shard files that are not on this machine: byte ranges, kept in a bounded local cache and mapped from there.

A packets file is one record batch per track, so one camera of one episode costs the file's footer once and one range. The batch is
decoded without the file's dictionaries (episode and camera names, scattered through the file): readers know both already.
"""

import os
import struct
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.lake import Lake
from schemas.errors import LakeError
from schemas.ids import digest
from schemas.shards import PACKETS

CACHE_VARIABLE, CACHE_BYTES_VARIABLE = "COTRAIN_CACHE", "COTRAIN_CACHE_BYTES"
CACHE_BYTES = 16 << 30
TAIL = 64 << 10  # holds the footer of a file of a thousand tracks
_MAGIC, _BLOCK = b"ARROW1", struct.Struct("<qi4xq")
_FOOTER_BATCHES = 3  # field number of `recordBatches` in Footer, Arrow's File.fbs
_PLAIN = pa.schema([pa.field(f.name, pa.int32() if pa.types.is_dictionary(f.type) else f.type) for f in PACKETS])


@dataclass(frozen=True, slots=True)
class RangeCache:
    """A folder of byte ranges, the least recently used removed once they exceed `limit` bytes. Processes may share it.

    Shard files never change under their name, so a range never becomes stale; a range in use stays readable after its removal.
    """

    folder: Path
    limit: int

    def get(self, lake: Lake, path: str, start: int, stop: int) -> pa.Buffer:
        """Return bytes `[start, stop)` of a file, mapped.

        Raises:
            LakeError: the file is missing or ends before `stop`.
        """
        target = self.folder / digest([path, start, stop])[:32]
        try:
            found = _mapped(target)
            os.utime(target)
            return found
        except FileNotFoundError:
            pass
        data = _fetch(lake, path, start, stop)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
        temporary.write_bytes(data)
        found = _mapped(temporary) if data else pa.py_buffer(b"")
        temporary.replace(target)
        self._trim(keep=target)
        return found

    def _trim(self, keep: Path) -> None:
        files = sorted(self._files(), key=lambda f: f[0])
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    about = entry.stat()
                except FileNotFoundError:  # another process trims too
                    continue
                yield about.st_mtime_ns, about.st_size, Path(entry.path)


@dataclass(frozen=True)
class RemoteFile:
    """One Arrow IPC file of a remote lake."""

    lake: Lake
    path: str
    cache: RangeCache

    @cached_property
    def size(self) -> int:
        """Length in bytes.

        Raises:
            LakeError: it is missing.
        """
        try:
            return int(self.lake.fs.size(self.path))
        except FileNotFoundError as error:
            raise LakeError(f"{self.path} is missing although the catalog names it; run `cotrain verify lake`") from error

    def whole(self) -> pa.Buffer:
        """Return every byte, mapped."""
        return self.cache.get(self.lake, self.path, 0, self.size)

    def packets(self, batch: int) -> pa.RecordBatch:
        """Return one track of a packets file; `episode_id` and `camera` are bare dictionary indices.

        Raises:
            LakeError: the file is not a complete Arrow file, or has no such batch.
        """
        if not 0 <= batch < len(self._blocks):
            raise self._broken(f"it has {len(self._blocks)} tracks, not {batch + 1}")
        offset, head, body = self._blocks[batch]
        data = self.cache.get(self.lake, self.path, offset, offset + head + body)
        return pa.ipc.read_record_batch(pa.ipc.read_message(pa.BufferReader(data)), _PLAIN)

    @cached_property
    def _blocks(self) -> list[tuple[int, int, int]]:
        """Offset, metadata length and body length of each record batch, from the footer."""
        tail = self.cache.get(self.lake, self.path, max(self.size - TAIL, 0), self.size).to_pybytes()
        if tail[-6:] != _MAGIC:
            raise self._broken("it does not end like one")
        length = struct.unpack("<i", tail[-10:-6])[0]
        if length + 10 > len(tail):
            tail = self.cache.get(self.lake, self.path, self.size - length - 10, self.size).to_pybytes()
        return _record_batches(tail[-10 - length : -10])

    def _broken(self, why: str) -> LakeError:
        return LakeError(f"{self.path} is not a complete Arrow file: {why}; run `cotrain verify lake`")


@lru_cache(maxsize=1)
def default_cache() -> RangeCache:
    """Return this machine's cache: `$COTRAIN_CACHE` or a folder of its own among temporary files, `$COTRAIN_CACHE_BYTES` large."""
    folder = os.environ.get(CACHE_VARIABLE) or str(Path(tempfile.gettempdir()) / f"cotrain-cache-{os.getuid()}")
    return RangeCache(Path(folder), int(os.environ.get(CACHE_BYTES_VARIABLE, CACHE_BYTES)))


def _record_batches(footer: bytes) -> list[tuple[int, int, int]]:
    """Read the vector of record batch blocks out of a Footer flatbuffer."""

    def number(layout: str, at: int) -> Any:
        return struct.unpack_from(layout, footer, at)[0]

    table = number("<I", 0)
    fields = table - number("<i", table)
    slot = 4 + 2 * _FOOTER_BATCHES
    if number("<H", fields) <= slot or not number("<H", fields + slot):
        return []  # a file without record batches leaves the field out
    vector = table + number("<H", fields + slot)
    vector += number("<I", vector)
    return [_BLOCK.unpack_from(footer, vector + 4 + _BLOCK.size * i) for i in range(number("<I", vector))]


def _mapped(path: Path) -> pa.Buffer:
    if not path.stat().st_size:
        return pa.py_buffer(b"")
    with pa.memory_map(str(path), "r") as file:
        return file.read_buffer()


def _fetch(lake: Lake, path: str, start: int, stop: int) -> bytes:
    try:
        data = lake.fs.cat_file(path, start=start, end=stop)
    except FileNotFoundError as error:
        raise LakeError(f"{path} is missing although the catalog names it; run `cotrain verify lake`") from error
    if len(data) != stop - start:
        raise LakeError(f"{path} ends before byte {stop}; run `cotrain verify lake`")
    return data
