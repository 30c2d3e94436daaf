"""What one open file of a bag offers, whatever its format: channels, and raw messages by topic and time. Nothing is decoded here."""

import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pipelines.shards.draft import I64
from schemas.errors import CorruptMediaError, DataError


@dataclass(frozen=True, slots=True)
class Channel:
    """One connection of a bag. `encoding` is `cdr`, `ros1`, `protobuf`, `json` or another; `form` tells how `definition` is written."""

    topic: str
    type: str
    encoding: str
    form: str
    definition: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Raw:
    """One message as stored; `log_ns` is when it was recorded."""

    channel: Channel
    log_ns: int
    data: bytes


class Reader(Protocol):
    """One open file of a bag."""

    channels: tuple[Channel, ...]
    start_ns: int
    stop_ns: int  # the last message's time plus one
    notes: tuple[str, ...]

    def messages(self, topics: frozenset[str], start_ns: int, stop_ns: int, damage: list[str] | None) -> Iterator[Raw]:
        """Yield the messages of `topics` logged in `[start_ns, stop_ns)`, of one topic in the order of the file.

        Damaged parts are told in `damage`, where a list is given, and skipped.

        Raises:
            CorruptMediaError: a part cannot be read and `damage` is None.
        """
        ...

    def log_times(self, topic: str) -> I64:
        """Return when the messages of `topic` were logged, without reading them; unsorted."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


@contextmanager
def readable(uri: str) -> Generator[None]:
    """Turn what the libraries raise on damaged files into one error that names the file."""
    try:
        yield
    except DataError as error:
        error.uri = error.uri or uri
        raise
    except damage_errors() as error:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise CorruptMediaError(f"{uri} cannot be read: {why}", uri=uri) from error


def damage_errors() -> tuple[type[BaseException], ...]:
    """Return what reading a damaged bag raises: the libraries' own errors, and what their parsing stumbles over."""
    import apsw
    from mcap.exceptions import McapError
    from rosbags.rosbag1 import ReaderError as Ros1Error
    from rosbags.rosbag2 import ReaderError as Ros2Error
    from rosbags.serde import SerdeError
    from rosbags.typesys.base import TypesysError
    from zstandard import ZstdError

    own: tuple[Any, ...] = (McapError, Ros1Error, Ros2Error, SerdeError, TypesysError, apsw.Error, ZstdError)
    return (
        *own, struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, RuntimeError, OverflowError,
        MemoryError, EOFError, OSError,
    )  # fmt: skip
