"""One camera of one episode as mapped packets: which row holds which frame, where decoding starts, and the bytes themselves."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import CorruptMediaError
from schemas.shards import TrackInfo


@dataclass(frozen=True)
class Track:
    """One camera of one episode, mapped: `batch` is its record batch, `info` says how to decode it."""

    info: TrackInfo
    batch: pa.RecordBatch
    uri: str

    @cached_property
    def frame(self) -> npt.NDArray[np.int32]:
        """Presentation number of each row, int32[rows]."""
        return self.batch.column("frame").to_numpy()

    @cached_property
    def key_row(self) -> npt.NDArray[np.int64]:
        """Row (within this track) of the keyframe to start from, int64[rows]."""
        return self.batch.column("key_row").to_numpy() - self.info.first_row

    @cached_property
    def row_of(self) -> npt.NDArray[np.int64]:
        """Row of each shown frame, int64[frames]."""
        rows = np.full(self.info.frames, -1, np.int64)
        shown = self.frame >= 0
        rows[self.frame[shown]] = np.flatnonzero(shown)
        return rows

    @cached_property
    def pts_ns(self) -> npt.NDArray[np.int64]:
        """Presentation time of each shown frame on the episode clock, int64[frames]."""
        return self.batch.column("pts_ns").to_numpy()[self.row_of]

    @cached_property
    def in_order(self) -> bool:
        """Whether frames are shown in decode order (no B-frames), so that a decoder need not wait before showing one."""
        return bool((np.diff(self.frame) > 0).all())

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an upright picture."""
        header = self.info.header
        height, width = header.height, header.width
        return (width, height, 3) if header.rotation % 180 else (height, width, 3)

    @cached_property
    def _bytes(self) -> tuple[npt.NDArray[np.int64], memoryview]:
        column = self.batch.column("data")
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        return offsets, memoryview(column.buffers()[2] or b"").cast("B")  # Arrow says signed, JPEG decoders want unsigned

    def packet(self, row: int) -> Any:
        """Return the encoded bytes of `row`, without copying."""
        offsets, data = self._bytes
        return data[offsets[row] : offsets[row + 1]]

    def corrupt(self, frame: int, why: str) -> CorruptMediaError:
        """Return the error that says which picture cannot be shown, and why."""
        return CorruptMediaError(
            f"{self.uri}: frame {frame} of camera {self.info.camera}, episode {self.info.episode_id}: {why}",
            uri=self.uri,
            episode=self.info.episode_id,
        )
