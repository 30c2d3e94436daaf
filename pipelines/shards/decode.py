"""Packets to pixels: one function for every codec. Decoders are kept per thread, so a random frame costs no set-up."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import av.error
import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg

from schemas.errors import CorruptMediaError
from schemas.shards import TrackInfo

OPEN_DECODERS = 16
RGB = npt.NDArray[np.uint8]
_local = threading.local()


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
    def _bytes(self) -> tuple[npt.NDArray[np.int64], memoryview]:
        column = self.batch.column("data")
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        return offsets, memoryview(column.buffers()[2] or b"").cast("B")  # Arrow says signed, JPEG decoders want unsigned

    def packet(self, row: int) -> Any:
        """Return the encoded bytes of `row`, without copying."""
        offsets, data = self._bytes
        return data[offsets[row] : offsets[row + 1]]


def decode_rgb(track: Track, frames: npt.ArrayLike, out: RGB | None = None) -> RGB:
    """Decode shown `frames` (any order, repeats allowed) to RGB uint8[n, H, W, 3], upright.

    Args:
        track: where the packets are.
        frames: int[n] presentation numbers in `[0, track.info.frames)`.
        out: uint8[n, H, W, 3] to fill; allocated if None.

    Raises:
        IndexError: a frame is outside the track.
        CorruptMediaError: the decoder fails or never shows a wanted frame.
    """
    wanted = np.asarray(frames, np.int64).reshape(-1)
    _bounds(track, wanted)
    header = track.info.header
    turned = header.rotation % 180 != 0
    shape = (header.width, header.height) if turned else (header.height, header.width)
    result = np.empty((len(wanted), *shape, 3), np.uint8) if out is None else out
    places: dict[int, list[int]] = {}
    for place, frame in enumerate(wanted.tolist()):
        places.setdefault(frame, []).append(place)
    for frame, picture in _pictures(track, sorted(places)):
        image = np.rot90(picture, -header.rotation // 90) if header.rotation else picture
        for place in places[frame]:
            result[place] = image
    return result


def decode_masks(track: Track, frames: npt.ArrayLike) -> npt.NDArray[Any]:
    """Decode lossless integer images (PNG) to uint8 or uint16 [n, H, W]."""
    wanted = np.asarray(frames, np.int64).reshape(-1)
    _bounds(track, wanted)
    images: list[Any] = []
    for frame in wanted.tolist():
        raw = np.frombuffer(track.packet(int(track.row_of[frame])), np.uint8)
        image = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
        if image is None:
            raise _corrupt(track, frame, "not a PNG image")
        images.append(image)
    return np.stack(images)


def _pictures(track: Track, frames: list[int]) -> Iterator[tuple[int, RGB]]:
    match track.info.header.codec:
        case "mjpeg":
            for frame in frames:
                yield frame, _jpeg(track, frame)
        case "png":
            for frame in frames:
                image = decode_masks(track, [frame])[0]
                yield frame, np.ascontiguousarray(image[..., 2::-1] if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
        case _:
            yield from _video(track, frames)


def _jpeg(track: Track, frame: int) -> RGB:
    try:
        return simplejpeg.decode_jpeg(track.packet(int(track.row_of[frame])), "RGB", fastdct=False, fastupsample=False)
    except ValueError as error:
        raise _corrupt(track, frame, str(error)) from error


def _video(track: Track, frames: list[int]) -> Iterator[tuple[int, RGB]]:
    """Yield frames in ascending order, feeding each packet once and jumping only when a later keyframe allows it."""
    decoder = _decoder(track)
    decoder.flush_buffers()
    ready: dict[int, Any] = {}
    fed, flushed = 0, False  # rows [start, fed) have been given to the decoder
    started = False
    for frame in frames:
        row, key = int(track.row_of[frame]), int(track.key_row[track.row_of[frame]])
        if not started or key > fed:
            if started:
                decoder.flush_buffers()
            ready, fed, started, flushed = {}, key, True, False
        try:
            while frame not in ready:
                if fed < track.info.rows:
                    packet = av.Packet(track.packet(fed))
                    packet.pts = int(track.frame[fed])
                    shown = decoder.decode(packet)
                    fed += 1
                elif not flushed:
                    shown, flushed = decoder.decode(None), True
                else:
                    raise _corrupt(track, frame, f"the decoder never shows it (its packet is row {row})")
                ready |= {f.pts: f for f in shown}
        except av.error.FFmpegError as error:
            raise _corrupt(track, frame, str(error)) from error
        picture = ready[frame]
        ready = {n: f for n, f in ready.items() if n > frame}
        if picture.is_corrupt:
            raise _corrupt(track, frame, "the decoder marks it corrupt")
        yield frame, picture.to_ndarray(format="rgb24")


def _decoder(track: Track) -> Any:
    """Return this thread's decoder for the track's codec and configuration, opening it on first use."""
    cache: OrderedDict[Any, Any] = _local.__dict__.setdefault("decoders", OrderedDict())
    header = track.info.header
    # Decoders only differ by these; a camera's many episodes share one.
    wanted = (header.codec, header.extradata, header.width, header.height)
    if wanted in cache:
        cache.move_to_end(wanted)
        return cache[wanted]
    try:
        decoder: Any = av.CodecContext.create("libdav1d" if header.codec == "av1" else header.codec, "r")
    except ValueError as error:
        raise CorruptMediaError(f"{track.uri}: this PyAV build has no decoder for {header.codec!r}", uri=track.uri) from error
    decoder.extradata = header.extradata or None
    decoder.thread_count, decoder.thread_type = 1, "NONE"
    cache[wanted] = decoder
    if len(cache) > OPEN_DECODERS:
        cache.popitem(last=False)
    return decoder


def _bounds(track: Track, wanted: npt.NDArray[np.int64]) -> None:
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= track.info.frames):
        bad = int(wanted.min() if wanted.min() < 0 else wanted.max())
        raise IndexError(
            f"{track.uri}: camera {track.info.camera} of {track.info.episode_id} has {track.info.frames} frames, not {bad}"
        )


def _corrupt(track: Track, frame: int, why: str) -> CorruptMediaError:
    return CorruptMediaError(
        f"{track.uri}: frame {frame} of camera {track.info.camera}, episode {track.info.episode_id}: {why}",
        uri=track.uri,
        episode=track.info.episode_id,
    )
