"""Blocks that samples share: each picture is decoded once, shown rightly, and let go after the last sample that shows it."""

import random
import threading
import time
from collections import Counter

import numpy as np
import pytest

from pipelines.loader.load import load
from pipelines.loader.ring import Block, BlockRing
from pipelines.mixture.mix import mix
from schemas.errors import CorruptMediaError
from schemas.mixture import LocalitySpec, WindowSpec
from tests.support.mixtures import toy_spec

SIZE = 10 * 10 * 3


class Toy:
    """A store whose pictures show their own number; keeps what it was asked to decode."""

    def __init__(self, broken: tuple[int, ...] = (), seconds: float = 0.0) -> None:
        self.broken, self.seconds, self.calls = broken, seconds, list[int]()
        self.running, self.together = 0, 0

    def decode(self, frames, out):
        self.running += 1
        self.together = max(self.together, self.running)
        time.sleep(self.seconds)
        self.calls += frames
        self.running -= 1
        if bad := [f for f in frames if f in self.broken]:
            raise CorruptMediaError(f"frame {bad[0]} is broken")
        for frame, place in zip(frames, out, strict=True):
            place[:] = frame

    def keep(self, frames, places, wanted):
        pictures = {f: np.empty((10, 10, 3), np.uint8) for f in frames}
        self.decode(list(frames), list(pictures.values()))
        for frame, place in places.items():
            place[:] = pictures[frame]
        return {f: p for f, p in pictures.items() if wanted(f)}

    def show(self, kept, out):
        out[:] = kept

    def size(self, kept):
        return kept.nbytes


def block(ring, store, samples, gop=1):
    frames = sorted({f for s in samples for f in s})
    units = {f: tuple(g for g in frames if g // gop == f // gop) for f in frames}
    return Block(ring, store, units, Counter(f for s in samples for f in s))


def shown(one, frames):
    out = np.zeros((len(frames), 10, 10, 3), np.uint8)
    one.copy(frames, out)
    return out[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("gop", [1, 2, 8])
def test_every_picture_is_decoded_once_and_let_go(gop):
    samples = [[max(t - 1, 0), t] for t in range(24)]
    random.Random(gop).shuffle(samples)
    ring, store = BlockRing(), Toy()
    one = block(ring, store, samples, gop)
    assert all(shown(one, s) == s for s in samples)
    assert sorted(store.calls) == list(range(24))
    assert (ring.bytes, one.over, ring.decoded) == (0, True, 24)
    assert ring.most <= (14 if gop == 1 else 22) * SIZE  # of 24: what is over makes room for what begins
    assert shown(one, [5, 6]) == [5, 6]  # once more than expected costs decoding, nothing else
    assert ring.bytes == 0


def test_threads_share_the_work():
    """Four threads that want the same pictures decode each once, and together."""
    samples = [[t, t + 1] for t in range(16)] * 4
    ring, store, found = BlockRing(), Toy(seconds=0.005), []
    one = block(ring, store, samples)
    parts = [samples[n::4] for n in range(4)]
    together = [threading.Thread(target=lambda part=part: found.extend((s, shown(one, s)) for s in part)) for part in parts]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert len(found) == 64
    assert all(wanted == got for wanted, got in found)
    assert sorted(store.calls) == list(range(17))
    assert store.together > 1
    assert ring.bytes == 0


def test_the_ring_is_bounded():
    ring, stores = BlockRing(budget=5 * SIZE), [Toy() for _ in range(4)]

    def at(n):
        return ring.span(n, lambda: {"front": Block(ring, stores[n], {}, None)})["front"]

    first = at(0)
    for n in (0, 1, 2, 3, 0, 1):
        assert shown(at(n), [7, 8]) == [7, 8]
        assert ring.bytes <= 5 * SIZE
    assert first is not at(0)
    assert len(stores[0].calls) == 4  # it had to go for the others
    assert shown(first, [7, 8]) == [7, 8]  # whoever holds it may go on, but it keeps nothing that nobody would let go
    assert ring.bytes == sum(at(n).drop() for n in (0, 1))


def test_a_sound_picture_of_a_broken_unit_is_shown():
    ring, store = BlockRing(), Toy(broken=(6,))
    one = block(ring, store, [[4, 5], [5, 6], [4, 4]], gop=4)
    assert shown(one, [4, 5]) == [4, 5]
    with pytest.raises(CorruptMediaError, match="frame 6"):
        shown(one, [5, 6])
    assert shown(one, [4, 4]) == [4, 4]
    assert store.calls[:3] == [4, 5, 6]
    assert store.calls.count(6) == 2  # with its unit once, by itself once


def test_an_interrupted_unit_is_begun_again():
    class Interrupted(Toy):
        def keep(self, frames, places, wanted):
            raise KeyboardInterrupt

    ring = BlockRing()
    one = block(ring, Interrupted(), [[1, 2], [2, 3]])
    with pytest.raises(KeyboardInterrupt):
        shown(one, [1, 2])
    one.store = Toy()
    assert shown(one, [1, 2]) == [1, 2]


@pytest.mark.parametrize("edge", ["repeat", "mask"])
def test_a_window_of_blocks_is_half_in_memory_and_decoded_once(toys, edge):
    """One epoch: every picture once, and the two steps before each of the five blocks that begin inside an episode; none left over."""
    windows = WindowSpec(observation_s=(-0.1, 0.0), edge=edge)
    sources, near = toy_spec().sources[:1], LocalitySpec(3, 8)
    mix(toys, toy_spec("halves", samples=46, statistics=False, windows=windows, locality=near, sources=sources))
    dataset = load("halves", toys)
    memory = dataset.loader(2).memory()
    for positions in dataset.batches(2):
        dataset.batch(positions, memory)
    assert memory.ring is not None
    assert memory.ring.bytes == 0
    assert 0 < memory.ring.most <= 0.75 * memory.ring.budget
    assert memory.ring.decoded == 2 * (46 + 5 * 2)
