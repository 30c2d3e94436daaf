"""FFmpeg through PyAV: the default for every video codec. Packets go straight to a decoder, without container or seek."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import av
import av.error
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from pipelines.shards.backends.base import RGB, wrong_size
from pipelines.shards.backends.swscale import Converter
from pipelines.shards.bitstream import starts_anew
from pipelines.shards.track import Track
from schemas.errors import CorruptMediaError

OPEN_DECODERS = 16
COLOUR_SPACES = {1: Colorspace.ITU709, 7: Colorspace.SMPTE240M}  # FFmpeg's AVCOL_SPC numbers
_local = threading.local()


class PyAvBackend:
    """Decodes H.264, HEVC, AV1, VP8, VP9, MPEG-4 and motion JPEG; every other codec this FFmpeg knows by the same name, too."""

    name: ClassVar[str] = "pyav"
    codecs: ClassVar[frozenset[str]] = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mjpeg"})

    def missing(self) -> str | None:
        """PyAV is a dependency; it is always here."""
        return None

    def reduced(self, track: Track, height: int, width: int) -> tuple[int, int]:
        """Any smaller size: the conversion to RGB scales as it goes."""
        header = track.info.header
        return min(height, header.height), min(width, header.width)

    def decode(self, track: Track, frames: Sequence[int], into: Sequence[RGB], *, fast: bool) -> None:  # noqa: ARG002
        """Feed each packet once, jumping ahead only where a later keyframe allows it; `fast` changes nothing."""
        for place, picture in zip(into, _decoded(track, frames), strict=True):
            self.show(track, picture, place)

    def hold(self, track: Track, frames: Sequence[int]) -> list[Any]:
        """Keep pictures as the decoder made them: half the memory of RGB, and converting one costs little more than copying it."""
        return list(_decoded(track, frames))

    def show(self, track: Track, held: Any, into: RGB) -> None:
        """Convert to RGB, in place where that can be."""
        header = track.info.header
        if into.shape[:2] == (held.height, held.width):
            wanted = (held.format.name, held.width, held.height, header.colour_space)
            converter: Converter = _kept("converters", wanted, lambda: Converter(held, _colours(track)))
            if converter.usable and converter.into(held, into):
                return
        into[...] = _pixels(_reformatter(track, into).reformat(held, **_conversion(track, into)))


def _decoded(track: Track, frames: Sequence[int]) -> Iterator[Any]:
    """Yield the pictures of `frames` (ascending, each once) as the decoder gives them."""
    if not frames:
        return
    opened = _decoder(track)
    decoder, at_rest, opened.at_rest = opened.context, opened.at_rest, False
    ready: dict[int, Any] = {}
    fed, flushed, last = -1, False, track.info.rows  # rows below `fed` have been given to the decoder
    for frame in frames:
        row = int(track.row_of[frame])
        key = int(track.key_row[row])
        if fed < 0 or key > fed:
            if fed >= 0 or not at_rest or not starts_anew(track.info.header, track.packet(key)):
                decoder.flush_buffers()
            ready, fed, flushed = {}, key, False
        try:
            while frame not in ready:
                if fed < last:
                    packet = av.Packet(track.packet(fed))
                    packet.pts = int(track.frame[fed])
                    shown = decoder.decode(packet)
                    fed += 1
                elif not flushed:
                    shown, flushed = decoder.decode(None), True
                else:
                    raise track.corrupt(frame, f"the decoder never shows it (its packet is row {row})")
                for picture in shown:
                    ready[picture.pts] = picture
        except av.error.FFmpegError as error:
            raise track.corrupt(frame, str(error)) from error
        picture = ready.pop(frame)
        if ready:
            ready = {n: f for n, f in ready.items() if n > frame}
        yield _sound(track, frame, picture)
    # The last picture came with its own packet and nothing is on its way: the next one that starts anew needs no flushing.
    opened.at_rest = track.in_order and not flushed and fed == int(track.row_of[frames[-1]]) + 1


def _sound(track: Track, frame: int, picture: Any) -> Any:
    header = track.info.header
    if picture.is_corrupt:
        raise track.corrupt(frame, "the decoder marks it corrupt")
    if (picture.height, picture.width) != (header.height, header.width):
        raise wrong_size(track, frame, picture.height, picture.width)
    return picture


def _colours(track: Track) -> tuple[int, int] | None:
    """Return the numbers that tell swscale the colour space of a stream, and the one to read it by; None: its default is right."""
    space = COLOUR_SPACES.get(track.info.header.colour_space)
    return None if space is None else (int(space), int(Colorspace.ITU601))


def _conversion(track: Track, place: RGB) -> dict[str, Any]:
    """Say how decoded pictures become RGB of the size of `place`.

    Left to itself, swscale takes every picture for BT.601, whatever its stream says; torchcodec and players believe the stream.
    """
    header, how = track.info.header, {"format": "rgb24"}
    if place.shape[:2] != (header.height, header.width):
        how |= {"width": place.shape[1], "height": place.shape[0], "interpolation": Interpolation.AREA}
    if colours := _colours(track):
        how |= {"src_colorspace": colours[0], "dst_colorspace": colours[1]}
    return how


def _pixels(picture: Any) -> RGB:
    """View an rgb24 frame as uint8[H, W, 3] without its line padding."""
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: picture.height, : 3 * picture.width]
    return rows.reshape(picture.height, picture.width, 3)


def _reformatter(track: Track, place: RGB) -> Any:
    """Return this thread's colour converter: building its tables costs as much as converting a small picture.

    Each colour space and range has its own: a converter keeps the tables of its last picture where the next one states none.
    """
    header = track.info.header
    wanted = (header.codec, header.pix_fmt, header.colour_space, header.colour_range, header.width, header.height, place.shape)
    return _kept("reformatters", wanted, VideoReformatter)


def _kept(kind: str, wanted: Any, make: Callable[[], Any]) -> Any:
    """Return this thread's object of a kind, made on first use; the least recently used go first."""
    cache: OrderedDict[Any, Any] = _local.__dict__.setdefault(kind, OrderedDict())
    if wanted in cache:
        cache.move_to_end(wanted)
        return cache[wanted]
    cache[wanted] = found = make()
    if len(cache) > OPEN_DECODERS:
        cache.popitem(last=False)
    return found


@dataclass(slots=True)
class _Decoder:
    """A decoder; `at_rest` if it has shown all it was given. Flushing it costs as much as a third of a small picture."""

    context: Any
    at_rest: bool = False


def _decoder(track: Track) -> _Decoder:
    """Return this thread's decoder for the track's codec and configuration, opening it on first use."""
    header = track.info.header
    # Decoders only differ by these; a camera's many episodes share one.
    wanted = (header.codec, header.extradata, header.width, header.height, track.in_order)
    return _kept("decoders", wanted, partial(_open, track))


def _open(track: Track) -> _Decoder:
    header = track.info.header
    try:
        decoder: Any = av.CodecContext.create("libdav1d" if header.codec == "av1" else header.codec, "r")
    except ValueError as error:
        raise CorruptMediaError(f"{track.uri}: this PyAV build has no decoder for {header.codec!r}", uri=track.uri) from error
    decoder.extradata = header.extradata or None
    decoder.thread_count, decoder.thread_type = 1, "NONE"
    if track.in_order:
        decoder.flags |= Flags.low_delay  # H.264 and HEVC otherwise hold pictures back, in case one is shown earlier
    return _Decoder(decoder)
