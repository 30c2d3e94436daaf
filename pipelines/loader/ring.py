"""Decoded blocks: where an order stays near, a run of steps is decoded once and serves every sample anchored in it.

Threads share one ring. Which pictures a sample gets never depends on it; only how often they are decoded does.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.errors import CorruptMediaError

RING_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Pictures uint8[n, H, W, 3] of one camera, and the place of each frame among them."""

    pictures: npt.NDArray[np.uint8]
    places: dict[int, int]


@dataclass(slots=True)
class _Entry:
    done: threading.Event = field(default_factory=threading.Event)
    block: Block | None = None


class BlockRing:
    """The blocks read last, up to `budget` bytes; the least recently used goes first. Several threads wait for one decoding."""

    def __init__(self, budget: int = RING_BYTES) -> None:
        self.budget, self.bytes, self.loads = budget, 0, 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], Block]) -> Block | None:
        """Return the block called `key`, decoded by `load` if it is not here; None if a frame of it is corrupt.

        A sample may be sound although its block is not, so the caller then decodes just what the sample needs.
        """
        with self._lock:
            entry = self._entries.get(key)
            mine = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry()
                self.loads += 1
            self._entries.move_to_end(key)
        if not mine:
            entry.done.wait()
            return entry.block
        try:
            entry.block = load()
        except CorruptMediaError:
            return None
        except BaseException:
            with self._lock:
                self._entries.pop(key, None)
            raise
        finally:
            entry.done.set()
        self._account(entry.block.pictures.nbytes)
        return entry.block

    def _account(self, added: int) -> None:
        with self._lock:
            self.bytes += added
            for key in list(self._entries):
                if self.bytes <= self.budget or len(self._entries) == 1:
                    return
                if self._entries[key].done.is_set():  # never one that is being decoded
                    gone = self._entries.pop(key).block
                    self.bytes -= gone.pictures.nbytes if gone else 0
