"""Video spans and embedded images of one group as packet tracks: each file is demuxed once, and nothing is decoded."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.shards.demux import Demuxed, demux
from pipelines.shards.draft import I32, I64, TrackDraft
from pipelines.sources.base import inside
from pipelines.sources.lerobot.info import Info
from pipelines.sources.lerobot.rows import EpisodeRow, VideoSpan
from schemas.errors import ContractError, CorruptMediaError, DataError, LengthMismatchError, MissingFileError
from schemas.shards import CodecHeader

PNG_SIZE = slice(16, 24)  # width and height in the IHDR chunk
PNG_MAGIC = b"\x89PNG"


@dataclass(frozen=True, slots=True)
class _Open:
    """A demuxed file with what every cut needs, computed once: a file holds hundreds of episodes."""

    demuxed: Demuxed
    seconds: npt.NDArray[np.float64]
    keys: npt.NDArray[np.intp]
    slack: float


class VideoFiles:
    """Demuxes the mp4 files that a group's `rows` name, each over the span the group needs."""

    def __init__(self, info: Info, rows: Sequence[EpisodeRow]) -> None:
        self._root = info.root
        self._needed: dict[str, tuple[float, float]] = {}
        for span in (s for r in rows for s in r.videos):
            start, end = self._needed.get(span.file, (span.start_s, span.end_s))
            self._needed[span.file] = (min(start, span.start_s), max(end, span.end_s))
        self._open: dict[str, _Open | DataError] = {}

    def track(self, span: VideoSpan) -> TrackDraft:
        """Cut one episode's packets; its clock starts at the span's start.

        Raises:
            MissingFileError: the file is not there.
            CorruptMediaError: the part of it that shows this episode cannot be demuxed.
        """
        path = inside(self._root, span.file)
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist, although meta/episodes names it", uri=str(path))
        if span.file not in self._open:
            start, end = self._needed[span.file]
            try:
                self._open[span.file] = _opened(demux(str(path), start_s=start, end_s=end))
            except DataError as error:
                self._open[span.file] = error
        found = self._open[span.file]
        if isinstance(found, DataError):
            # The damage may lie in another episode's part of the file.
            found = _opened(demux(str(path), start_s=span.start_s, end_s=span.end_s))
        return _cut(found, span)


def match_frames(times: I64, t_ns: I64, fps: float) -> tuple[I32, float]:
    """Find for each step the frame shown nearest to it, at most half a frame away.

    Args:
        times: int64[F], when each frame is shown, ascending.
        t_ns: int64[T], the steps' clock.
        fps: nominal frame rate.

    Returns:
        int32[T] frame numbers, -1 where none is near enough, and the largest distance in seconds among the others.
    """
    if len(times) == 0:
        return np.full(len(t_ns), -1, np.int32), 0.0
    right = np.clip(np.searchsorted(times, t_ns), 1, max(len(times) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    nearest = np.where(np.abs(times[right] - t_ns) < np.abs(times[left] - t_ns), right, left)
    distance = np.abs(times[nearest] - t_ns)
    near = distance <= 0.5e9 / fps
    return np.where(near, nearest, -1).astype(np.int32), float(distance[near].max(initial=0)) / 1e9


def check_shown(frames: I32, track: TrackDraft, span: VideoSpan, row: EpisodeRow, uri: str) -> None:
    """Check that every step sees a frame.

    Raises:
        LengthMismatchError: the video is shorter than the table, or its clock is another one.
    """
    blind = np.flatnonzero(frames < 0)
    if len(blind):
        raise LengthMismatchError(
            f"{uri} shows {track.frames} frames to camera {span.camera} in [{span.start_s:.3f}, {span.end_s:.3f}) s, but episode "
            f"{row.index} has {row.length} rows: {len(blind)} of them, from row {int(blind[0])} on, have no frame",
            uri=uri,
        )


def image_track(camera: str, column: pa.ChunkedArray, t_ns: I64, info: Info, uri: str) -> TrackDraft:
    """Turn a column struct<bytes, path>[T] of encoded images into packets, each its own keyframe.

    Raises:
        ContractError: a cell is empty or images differ in size or format.
        CorruptMediaError: the first image is of no format FFmpeg knows.
    """
    data = [_image_bytes(cell, camera, info, uri) for cell in column.to_pylist()]
    header = _image_header(data[0], camera, uri) if data else CodecHeader("png")
    magic, size = data[0][:4] if data else b"", data[0][PNG_SIZE] if data else b""
    for frame, image in enumerate(data):
        if image[:2] != magic[:2] or (magic == PNG_MAGIC and image[PNG_SIZE] != size):
            raise ContractError(f"{uri}: image {frame} of camera {camera} has another format or size than the first", uri=uri)
    return TrackDraft(camera, header, np.arange(len(data), dtype=np.int32), t_ns, np.ones(len(data), bool), data)


def _opened(demuxed: Demuxed) -> _Open:
    seconds = np.asarray(demuxed.pts, np.float64) * float(demuxed.time_base)
    gaps = np.diff(np.sort(seconds))
    gaps = gaps[gaps > 0]
    return _Open(demuxed, seconds, np.flatnonzero(demuxed.key), float(gaps.min()) / 2 if len(gaps) else 0.0)


def _cut(opened: _Open, span: VideoSpan) -> TrackDraft:
    """Hand `Demuxed.span` only the neighbourhood it can need: two keyframes back, and a little beyond the end."""
    whole, slack = opened.demuxed, opened.slack
    rows = np.flatnonzero((opened.seconds >= span.start_s - slack) & (opened.seconds < span.end_s - slack))
    if len(rows) == 0:
        return whole.span(span.camera, span.start_s, span.end_s)
    before = opened.keys[: np.searchsorted(opened.keys, rows[0], "right")]
    begin = int(before[-2:][0]) if len(before) else 0
    part = slice(max(0, begin - 1), int(rows[-1]) + 3)
    near = Demuxed(whole.uri, whole.header, whole.pts[part], whole.key[part], whole.data[part])
    return near.span(span.camera, span.start_s, span.end_s)


def _image_bytes(cell: dict[str, Any] | None, camera: str, info: Info, uri: str) -> bytes:
    if cell is not None and cell.get("bytes"):
        return cell["bytes"]
    if cell is None or not cell.get("path"):
        raise ContractError(f"{uri}: a step of camera {camera} has neither image bytes nor a path", uri=uri)
    path = inside(info.root, cell["path"])
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist, although {uri} names it", uri=str(path))
    return path.read_bytes()


def _image_header(image: bytes, camera: str, uri: str) -> CodecHeader:
    try:
        opened: Any = av.open(io.BytesIO(image))
        with opened as container:
            context = container.streams.video[0].codec_context
            return CodecHeader(
                context.codec.canonical_name, width=context.width, height=context.height, pix_fmt=context.pix_fmt or ""
            )
    except (av.error.FFmpegError, IndexError) as error:
        raise CorruptMediaError(f"{uri}: the first image of camera {camera} has no known format: {error}", uri=uri) from error
