"""An open bag: all its files end to end, whatever their formats."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from pipelines.shards.draft import I64
from pipelines.sources.bag.files import Bag
from pipelines.sources.bag.mcap_file import McapFile
from pipelines.sources.bag.readers import Channel, Raw, Reader, readable
from pipelines.sources.bag.ros_files import Ros1File, Ros2File
from pipelines.sources.tree import Tree

FOREVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class OpenBag:
    """All files of one bag, end to end."""

    bag: Bag
    uri: str
    readers: tuple[Reader, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Every channel of every file."""
        return tuple(c for r in self.readers for c in r.channels)

    @property
    def counts(self) -> dict[str, int]:
        """Messages per topic, topics in the order in which files list them."""
        counts = dict[str, int]()
        for channel in self.channels:
            counts[channel.topic] = counts.get(channel.topic, 0) + channel.count
        return counts

    @property
    def start_ns(self) -> int:
        """When the first message was logged."""
        return min((r.start_ns for r in self.readers if r.stop_ns > r.start_ns), default=0)

    @property
    def stop_ns(self) -> int:
        """When the last message was logged, plus one."""
        return max((r.stop_ns for r in self.readers if r.stop_ns > r.start_ns), default=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the readers had to make up for."""
        return tuple(n for r in self.readers for n in r.notes)

    def messages(
        self, topics: frozenset[str], start_ns: int = 0, stop_ns: int = FOREVER, damage: list[str] | None = None
    ) -> Iterator[Raw]:
        """Yield messages, see `Reader.messages`; errors name the bag."""
        for reader in self.readers:
            if reader.start_ns < stop_ns and reader.stop_ns > start_ns:
                with readable(self.uri):
                    yield from reader.messages(topics, start_ns, stop_ns, damage)

    def log_times(self, topic: str) -> I64:
        """Return when the messages of `topic` were logged, sorted."""
        with readable(self.uri):
            parts = [r.log_times(topic) for r in self.readers]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


@contextmanager
def open_bag(tree: Tree, bag: Bag) -> Generator[OpenBag]:
    """Open every file of `bag` and read their indexes.

    Raises:
        CorruptMediaError: a file is damaged or cut short beyond use.
        MissingFileError: a file is not there.
    """
    with ExitStack() as stack:
        readers = list[Reader]()
        for name in bag.files:
            path = tree.path(name)
            with readable(tree.uri(name)):
                reader = _reader(str(path), bag)
            stack.callback(reader.close)
            readers.append(reader)
        yield OpenBag(bag, tree.uri(bag.name), tuple(readers))


def _reader(path: str, bag: Bag) -> Reader:
    if path.endswith(".mcap"):
        return McapFile(path)
    return Ros1File(path) if path.endswith(".bag") else Ros2File(path, bag.message_compression)
