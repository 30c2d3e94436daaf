"""What a decoding backend is."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.shards.track import Track
from schemas.errors import CorruptMediaError

RGB = npt.NDArray[np.uint8]


class Backend(Protocol):
    """Turns packets into pictures. Instances hold no state of their own: decoders live per thread, bounded.

    Attributes:
        name: in the registry.
        codecs: FFmpeg names of what it decodes.
    """

    name: ClassVar[str]
    codecs: ClassVar[frozenset[str]]

    def missing(self) -> str | None:
        """Return why it cannot run on this machine, None if it can. Imports what it needs; never raises."""
        ...

    def reduced(self, track: Track, height: int, width: int) -> tuple[int, int]:
        """Return the smallest height and width, both at least those given, at which it decodes directly; the header's if it cannot."""
        ...

    def decode(self, track: Track, frames: Sequence[int], into: Sequence[RGB], *, fast: bool) -> None:
        """Write pictures as the codec stores them (not yet rotated).

        Args:
            track: where the packets are.
            frames: shown frames of the track, ascending, each once.
            into: for each frame, a C-contiguous uint8[height, width, 3] of the header's size, or of one that `reduced` returned.
            fast: allow a minor loss of quality where the decoder has a faster way (JPEG: fast DCT and upsampling).

        Raises:
            CorruptMediaError: the decoder fails, shows another size, or never shows a wanted frame.
        """
        ...


@runtime_checkable
class Holds(Protocol):
    """A backend that can keep decoded pictures in its own form, and convert them to RGB as often as they are wanted."""

    def hold(self, track: Track, frames: Sequence[int]) -> list[Any]:
        """Decode `frames` (ascending, each once), not yet rotated.

        Raises:
            CorruptMediaError: as in `Backend.decode`.
        """
        ...

    def show(self, track: Track, held: Any, into: RGB) -> None:
        """Write one of them to a uint8[height, width, 3] of the header's size."""
        ...


def fill(track: Track, frame: int, image: RGB, into: RGB) -> None:
    """Copy a decoded picture to its place.

    Raises:
        CorruptMediaError: it is not of the size that the track's header states.
    """
    if image.shape != into.shape:
        raise wrong_size(track, frame, *image.shape[:2])
    into[...] = image


def wrong_size(track: Track, frame: int, height: int, width: int) -> CorruptMediaError:
    """Return the error that says a picture is not of the size that its header states."""
    header = track.info.header
    return track.corrupt(frame, f"it shows {width}x{height}, its header says {header.width}x{header.height}")
