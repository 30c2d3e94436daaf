"""Packets into an mp4: appends runs of encoded packets on an exact integer frame grid. Nothing is decoded or encoded again.

Frame f of the file is shown at f / fps seconds and has decode time row - delay, so container arithmetic never rounds.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error
import numpy as np
import numpy.typing as npt

from pipelines.shards.decode import Track
from pipelines.shards.draft import BOOL, I64, TrackDraft
from schemas.errors import CorruptMediaError
from schemas.shards import CodecHeader


@dataclass(frozen=True, slots=True)
class Run:
    """One track's packets in decode order, with the place of each on a gap-free presentation grid.

    `slot` int64[n] is a permutation of `0..n-1`. `first` is the slot of the track's frame 0, not 0 where packets that are only
    decoded come before it. `hidden` counts the packets that are decoded but never shown.
    """

    header: CodecHeader
    slot: I64
    key: BOOL
    data: Sequence[Any]
    first: int
    hidden: int

    @property
    def delay(self) -> int:
        """Rows by which decoding must run ahead of showing (B-frames); 0 without reordering."""
        return max(0, int((np.arange(len(self.slot)) - self.slot).max(initial=0)))

    @property
    def bytes(self) -> int:
        """Encoded size."""
        return sum(len(d) for d in self.data)

    @classmethod
    def of(cls, track: Track | TrackDraft) -> "Run":
        """Lay a track's packets out on the grid, in order of presentation time."""
        if isinstance(track, TrackDraft):
            return _run(track.header, track.frame, track.pts_ns, track.key, track.data)
        batch = track.batch
        key, pts = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("key", "pts_ns"))
        return _run(track.info.header, track.frame, pts, key, [track.packet(row) for row in range(track.info.rows)])


def can_remux(header: CodecHeader) -> bool:
    """Tell whether an mp4 can hold this codec's packets as they are: ingest made an mp4 header for it."""
    return header.init[4:8] == b"ftyp"


@dataclass(slots=True)
class Mp4Writer:
    """Writes one mp4 by appending runs that share codec parameters. Use as a context manager or call `close`.

    The first run decides codec parameters and reorder delay; ask `fits` before appending another.
    """

    path: Path
    fps: int
    frames: int = 0
    bytes: int = 0
    _header: CodecHeader | None = None
    _delay: int = 0
    _out: Any = None
    _stream: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def fits(self, run: Run) -> bool:
        """Tell whether `run` can follow what is in the file: equal codec parameters, no more reordering."""
        return self._header is None or (_parameters(self._header) == _parameters(run.header) and run.delay <= self._delay)

    def append(self, run: Run) -> int:
        """Append `run` and return the file frame at which its frame 0 is shown.

        Raises:
            CorruptMediaError: the codec's packets do not go into an mp4, or the muxer refuses one.
        """
        if not can_remux(run.header):
            raise CorruptMediaError(f"{self.path}: an mp4 cannot hold {run.header.codec} packets as they are", uri=str(self.path))
        try:
            out = self._out if self._out is not None else self._open(run)
            for row, (slot, key, data) in enumerate(zip(run.slot.tolist(), run.key.tolist(), run.data, strict=True)):
                packet = av.Packet(data)
                packet.stream, packet.time_base = self._stream, self._tick
                packet.pts, packet.dts, packet.duration = self.frames + slot, self.frames + row - self._delay, 1
                packet.is_keyframe = key
                out.mux(packet)
        except (av.error.FFmpegError, ValueError) as error:
            raise CorruptMediaError(
                f"{self.path}: the muxer refuses {run.header.codec} packets: {error}", uri=str(self.path)
            ) from error
        first = self.frames + run.first
        self.frames += len(run.slot)
        self.bytes += run.bytes
        return first

    def close(self) -> None:
        """Finish the file. A writer that never got a packet leaves none."""
        if self._out is not None:
            self._out.close()
            self._out = self._stream = None

    @property
    def _tick(self) -> Fraction:
        return Fraction(1, self.fps)

    def _open(self, run: Run) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._header, self._delay = run.header, run.delay
        # The input must outlive the call: the template's parameters are copied from it.
        with av.open(io.BytesIO(run.header.init)) as template:
            self._out = av.open(str(self.path), "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._out.add_stream_from_template(template.streams.video[0], opaque=True)
        self._stream.time_base = self._tick
        return self._out


def _parameters(header: CodecHeader) -> tuple[Any, ...]:
    """Return what two runs must share to sit in one mp4 track; time base and frame rate are ours, not theirs."""
    return (
        header.codec, header.extradata, header.width, header.height, header.pix_fmt, header.profile, header.rotation,
        header.colour_range, header.colour_space,
    )  # fmt: skip


def _run(header: CodecHeader, frame: npt.NDArray[np.int32], pts_ns: I64, key: BOOL, data: Sequence[Any]) -> Run:
    slot = np.empty(len(frame), np.int64)
    slot[np.argsort(pts_ns, kind="stable")] = np.arange(len(frame))
    shown = frame == 0
    return Run(header, slot, key, data, int(slot[shown][0]) if shown.any() else 0, int((frame < 0).sum()))
