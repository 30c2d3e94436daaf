"""Threads change nothing: the batches of the synchronous path, in its order, on memory that is recycled only when it is free."""

import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipelines.loader.load import load
from pipelines.loader.loader import block_bytes
from pipelines.loader.pool import Pool
from pipelines.loader.prefetch import prefetch
from pipelines.mixture.mix import mix
from schemas.errors import CorruptMediaError, UsageError
from schemas.mixture import LocalitySpec, WindowSpec
from tests.support.mixtures import toy_spec

WINDOWS = WindowSpec(observation_s=(-0.1, 0.0), action_horizon_s=0.4)


@pytest.fixture(scope="module")
def mixed(toys):
    mix(toys, toy_spec("ahead", samples=150, statistics=False, windows=WINDOWS))
    return load("ahead", toys)


def same(a: dict, b: dict) -> bool:
    tensors = (torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items())
    return a.keys() == b.keys() and all(tensors)


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("cotrain-read")]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_are_those_of_the_data_loader(mixed, threads):
    wanted = list(DataLoader(mixed, batch_sampler=mixed.batches(12, drop_last=False), collate_fn=mixed.collate))
    found = list(mixed.loader(12, threads=threads, drop_last=False))  # kept: none may be overwritten by a later one
    assert len(found) == len(wanted) == 13
    assert all(same(a, b) for a, b in zip(wanted, found, strict=True))
    assert found[0]["observation.images.front"].shape == (12, 2, 3, 64, 64)
    assert readers() == []


def test_workers_that_are_spawned_read_the_same(mixed):
    sampler = mixed.batches(50)
    context = get_context("spawn")
    loader = DataLoader(mixed, batch_sampler=sampler, collate_fn=mixed.collate, num_workers=2, multiprocessing_context=context)
    assert all(same(a, b) for a, b in zip(mixed.loader(50), loader, strict=True))


def test_resume_and_ranks(mixed):
    whole = [batch["index"].tolist() for batch in mixed.loader(10)]
    loader = mixed.loader(10)
    for _, batch in zip(range(4), loader, strict=False):
        last = batch["index"].tolist()
    assert last == whole[3]
    rest = mixed.loader(10, resume=loader.state())
    assert [b["index"].tolist() for b in rest] == whole[4:]
    halves = [mixed.loader(10, rank=r, world=2, threads=1) for r in (0, 1)]
    assert [a["index"].tolist() + b["index"].tolist() for a, b in zip(*halves, strict=True)] == whole
    with pytest.raises(UsageError, match="ahead at least 1"):
        mixed.loader(10, ahead=0)


def test_a_dropped_or_interrupted_iterator_leaves_no_thread(mixed):
    batches = iter(mixed.loader(10, threads=2))
    next(batches)
    assert len(readers()) == 2
    del batches
    assert readers() == []

    def interrupted():
        for _ in mixed.loader(10, threads=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert readers() == []


def test_an_error_comes_where_its_batch_would_have(mixed):
    def read(positions):
        if positions[0] == 3:
            raise CorruptMediaError("frame 3 is broken")
        time.sleep(0.01 * (positions[0] == 0))  # the first is the slowest, and still comes first
        return {"n": positions[0]}

    found = prefetch(iter([[n] for n in range(9)]), read, threads=3, ahead=4)
    assert [next(found)["n"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(CorruptMediaError, match="frame 3"):
        next(found)
    assert readers() == []

    def broken() -> Iterator[list[int]]:
        yield [0]
        raise UsageError("no more positions")

    found = prefetch(broken(), read, threads=2, ahead=4)
    assert next(found) == {"n": 0}
    with pytest.raises(UsageError, match="no more positions"):
        next(found)


def test_threads_wait_for_the_consumer():
    started = []

    def read(positions):
        started.append(positions[0])
        return {}

    found = prefetch(iter([[n] for n in range(100)]), read, threads=3, ahead=4)
    for taken in range(1, 4):
        next(found)
        time.sleep(0.05)
        assert len(started) == taken + 4
    found.close()
    assert len(started) < 10


def test_memory_is_recycled_once_nobody_looks_at_it():
    pool = Pool(keep=2)
    kept = torch.from_numpy(pool.take(1000)[:64].view(np.float32).reshape(4, 4))[1:]
    kept.fill_(7)
    for _ in range(20):
        view = torch.from_numpy(pool.take(1000).reshape(10, 100))
        view.fill_(3)
        del view
    assert pool.made == 2
    assert kept.tolist() == [[7.0] * 4] * 3
    del kept
    assert pool.take(1000).shape == (1000,)
    assert pool.made == 2


@pytest.mark.parametrize("locality", [LocalitySpec(2), LocalitySpec(3, 4)])
@pytest.mark.parametrize("threads", [0, 3])
def test_an_order_that_stays_near_decodes_each_block_once(toys, locality, threads):
    from pipelines.loader.loader import Loader

    mix(toys, toy_spec("near", samples=92, statistics=False, windows=WINDOWS, locality=locality, sources=toy_spec().sources[:1]))
    dataset = load("near", toys)
    assert len(dataset) == 2 * 46
    loader: Loader = dataset.loader(4, threads=threads)
    assert loader.decodes_once
    memory = loader.memory()
    batches = [dataset.batch(p, memory) for p in list(dataset.batches(4))[:-12]]  # 11 batches: not a whole epoch
    assert memory.ring.decoded <= 2 * (46 + 46 // 4 + 6)  # of two cameras, and a frame more per block; else 2 * 2 * 44
    plain = list(DataLoader(dataset, batch_sampler=dataset.batches(4), collate_fn=dataset.collate))
    assert all(same(a, b) for a, b in zip(plain, batches, strict=False))
    threaded = list(loader)
    assert all(same(a, b) for a, b in zip(plain, threaded, strict=True))
    steps = [(e, int(f)) for b in threaded for e, f in zip(b["episode_id"], b["frame_index"], strict=True)]
    assert all(steps.count(step) == 2 for step in set(steps))  # two epochs: every step once in each
    assert len(set(steps)) == 46


def test_a_window_that_does_not_fit_is_read_directly(mixed, toys):
    assert not mixed.loader(10).decodes_once
    dataset = load("toy_a", toys)
    assert block_bytes(dataset) == (32 + 32) * 2 * 64 * 64 * 3
    assert dataset.loader(10).decodes_once
    assert not dataset.loader(10, ring_bytes=1 << 10).decodes_once
