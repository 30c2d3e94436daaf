"""Decoded blocks: where an order stays near, each picture is decoded once and serves every sample that shows it.

A block decodes a picture when the first sample asks for it, along with those its codec gives with it, and lets it go after the last
one: of a window read in random order, half is in memory at most. Threads share one ring. Which pictures a sample gets never depends on
it; only how often they are decoded does.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.errors import CorruptMediaError

RING_BYTES = 256 << 20
type Picture = npt.NDArray[np.uint8]  # [H, W, 3]
type Blocks = Mapping[str, "Block"]  # by key of the sample


class Store(Protocol):
    """Decodes the pictures of one camera of one episode, and keeps them in whatever form is cheapest to show again."""

    def decode(self, frames: Sequence[int], out: Sequence[Picture]) -> None:
        """Write frames (in any order, repeats allowed) to `out`."""
        ...

    def keep(self, frames: Sequence[int], places: Mapping[int, Picture], wanted: Callable[[int], bool]) -> dict[int, Any]:
        """Decode ascending frames and return those that are `wanted` again.

        Args:
            frames: to decode.
            places: where some of them are to be shown at once.
            wanted: whether a frame will be asked for again.
        """
        ...

    def show(self, kept: Any, out: Picture) -> None:
        """Write what `keep` returned for a frame."""
        ...

    def size(self, kept: Any) -> int:
        """Return the bytes that it takes."""
        ...


@dataclass(slots=True)
class Block:
    """Pictures of one camera that the samples anchored in one span share.

    Attributes:
        ring: it belongs to.
        store: decodes.
        units: per frame, the frames that are decoded along with it, ascending, itself included.
        uses: per frame, how often samples will still show it; None: nobody knows, so pictures stay until others need the room.
    """

    ring: "BlockRing"
    store: Store
    units: Mapping[int, Sequence[int]]
    uses: Counter[int] | None
    _kept: dict[int, Any] = field(default_factory=dict[int, Any])
    _busy: dict[int, Any] = field(default_factory=dict[int, Any])
    _broken: set[int] = field(default_factory=set[int])
    _gone: bool = False

    def copy(self, frames: Sequence[int], out: npt.NDArray[np.uint8]) -> None:
        """Write frames to uint8[len(frames), H, W, 3].

        Raises:
            CorruptMediaError: one of these frames cannot be decoded, whatever else the block holds.
        """
        done = {} if all(f in self._kept for f in frames) else self._decode_missing(frames, out)
        left: list[int] = []
        for place, frame in enumerate(frames):
            if frame in done:
                if done[frame] != place:
                    out[place] = out[done[frame]]
                continue
            kept = self._waited(frame)
            if kept is None:
                left.append(place)
            else:
                self.store.show(kept, out[place])
        if left:  # it was let go for others, or its unit is broken though it may be sound itself
            self.store.decode([frames[p] for p in left], [out[p] for p in left])
        self._used(frames, len(left))

    def drop(self) -> int:
        """Keep no picture from here on, and return how many bytes they took. Only under the ring's lock."""
        self._gone = True  # some thread may still be reading through it
        size = sum(map(self.store.size, self._kept.values()))
        self._kept.clear()
        return size

    @property
    def over(self) -> bool:
        """Whether no sample will ask again."""
        return self.uses is not None and not self.uses

    def _decode_missing(self, frames: Sequence[int], out: npt.NDArray[np.uint8]) -> dict[int, int]:
        """Decode what nobody has begun; return the frames that are in their place already, and the place."""
        with self.ring.lock:
            mine = self._claim(frames)
            if not mine:
                return {}
            begun = threading.Lock()  # held until they are here
            begun.acquire()
            self._busy |= dict.fromkeys(mine, begun)
        places = {f: p for p, f in enumerate(frames) if f in mine}
        kept: dict[int, Any] = {}
        try:
            kept = self.store.keep(mine, {f: out[p] for f, p in places.items()}, lambda f: self._again(f, frames.count(f)))
            return places
        except CorruptMediaError:
            self._broken.update(mine)
            return {}
        finally:
            with self.ring.lock:
                kept = {} if self._gone else kept
                self._kept |= kept
                for frame in mine:
                    del self._busy[frame]
                self.ring.decoded += len(mine)
                self.ring.grow(self, sum(map(self.store.size, kept.values())))
            begun.release()

    def _claim(self, frames: Iterable[int]) -> list[int]:
        """Return the units of the frames that are neither here nor on their way. Only under the ring's lock."""
        mine: set[int] = set()
        for frame in filter(self._unknown, frames):
            unit = self.units.get(frame, ())
            mine.add(frame)
            mine.update(f for f in unit if f != frame and self._again(f, 0) and self._unknown(f))
        return sorted(mine)

    def _unknown(self, frame: int) -> bool:
        return frame not in self._kept and frame not in self._busy and frame not in self._broken

    def _again(self, frame: int, now: int) -> bool:
        return self.uses is None or self.uses[frame] > now

    def _waited(self, frame: int) -> Any:
        busy = self._busy.get(frame)
        if busy is not None:
            with busy:
                pass
        return self._kept.get(frame)

    def _used(self, frames: Sequence[int], decoded: int) -> None:
        with self.ring.lock:
            self.ring.decoded += decoded
            if self.uses is None:
                return
            for frame in frames:
                if self.uses[frame] > 1:
                    self.uses[frame] -= 1
                    continue
                del self.uses[frame]  # a Counter does not mind if it is gone already
                if frame in self._kept:
                    self.ring.bytes -= self.store.size(self._kept.pop(frame))


class BlockRing:
    """The blocks of the spans read last, up to `budget` bytes of pictures; those of the least recently used span go first.

    Attributes:
        bytes: that pictures take now.
        most: that they ever took.
        decoded: number of pictures decoded so far.
        lock: guards everything but decoding and copying.
    """

    def __init__(self, budget: int = RING_BYTES) -> None:
        self.budget, self.bytes, self.most, self.decoded = budget, 0, 0, 0
        self.lock = threading.Lock()
        self._spans: OrderedDict[Hashable, Blocks] = OrderedDict()

    def span(self, key: Hashable, make: Callable[[], Blocks]) -> Blocks:
        """Return the blocks of a span, made by `make` if they are not here."""
        with self.lock:
            found = self._spans.get(key)
            if found is not None:
                self._spans.move_to_end(key)
                return found
        made = make()
        with self.lock:
            return self._spans.setdefault(key, made)

    def grow(self, by: Block, size: int) -> None:
        """Count the bytes that a block has come to hold, and let go of others where they are too many. Only under the lock."""
        self.bytes += size
        self.most = max(self.most, self.bytes)
        while self._spans and all(block.over for block in next(iter(self._spans.values())).values()):
            self._spans.popitem(last=False)  # what is over holds nothing
        for key in list(self._spans) if self.bytes > self.budget else ():
            blocks = self._spans[key].values()
            if self.bytes > self.budget and not any(block is by for block in blocks):
                self.bytes -= sum(block.drop() for block in blocks)
                del self._spans[key]
