"""Random training chunks read from packet shards, against LeRobot's dataset, RLDS, and against decoding alone.

A *sample* is 2 observation frames of 2 cameras, 256x256, with 16 future actions, from 50 episodes of 200 steps. All of ours is
whole batches of 32. LeRobot reads the same H.264 GOP 2 packets, remuxed; RLDS the same JPEG bytes, copied. Cases take turns, so a
busy machine slows all of them; `x_lerobot_cpu` is the ratio to trust on one. Whether cost depends on the size of a set is told by
2 000 episodes of 25 steps against 50 of them. By the clock, two threads are compared with LeRobot's
`DataLoader` of two workers. A peer that cannot run here is listed with the reason, and its goals are left out.

    python -m benchmarks.read [--quick] [--json]
"""

import itertools
import math
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Sample, Timing, goal, main, measure, take_turns
from benchmarks.read_data import (
    CODECS,
    EPISODES,
    FEW,
    LENGTH,
    MANY,
    SHORT,
    SIDE,
    SIZED,
    build_lake,
    export_lerobot,
    export_rlds,
)  # fmt: skip
from benchmarks.read_peers import BATCH, Peer, timed_workers, warm_up
from benchmarks.recording import CAMERAS, film

PEERS = {
    "LeRobotDataset torchcodec": ("lerobot:torchcodec:0", 96),
    "LeRobotDataset pyav": ("lerobot:pyav:0", 48),
    "LeRobotDataset torchcodec, 2 workers": ("lerobot:torchcodec:2", 512),
    "RLDS random (TFDS)": ("rlds-random", 8),
    "RLDS streamed through a shuffle buffer": ("rlds-stream", 1024),
}
SAVED = tuple(
    f"memory:{what}" for what in ("jpeg:random:0", "jpeg:random:2", "h264-gop2:random:2", "jpeg:blocks:2", "h264-gop2:blocks:2")
)
BASE = "LeRobotDataset torchcodec"


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make the recordings, let every case take turns, and compare."""
    import torch

    torch.set_num_threads(1)
    episodes, many, turn = (10, MANY // 8, 384) if quick else (EPISODES, MANY, 1152)
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-read-") as name:
        folder = Path(name)
        lakes = {codec: build_lake(folder / codec, codec, episodes) for codec in CODECS}
        lakes |= {name: build_lake(folder / name, SIZED, n, SHORT) for name, n in (("few", FEW), ("many", many))}
        export_lerobot(lakes["h264-gop2"], folder / "lerobot")
        export_rlds(lakes["jpeg"], folder / "rlds")
        memory = _memory(folder, 1024 if quick else 4096)
        with _peers(folder, 2 if quick else 1) as (peers, absent):
            cases = _cases(lakes, folder, turn, quick) | {n: p.turn for n, p in peers.items()}
            if not quick:
                for case in cases.values():
                    case()  # pays for imports and for mapping files; in a quick run the median leaves the first turn out
            found = take_turns(cases, 3 if quick else 5)
    rows = [_row(t, found) for t in found.values()]
    rows += [{"case": n, "skipped": why} for n, why in absent.items()]
    return [*rows, *memory], _goals(found, memory)


def _cases(lakes: dict[str, Any], folder: Path, turn: int, quick: bool) -> dict[str, Callable[[], Sample]]:
    cases: dict[str, Callable[[], Sample]] = {}
    for codec in CODECS:
        lake, few = lakes[codec], quick and codec in CODECS[2:]
        cases[f"{codec} decode alone"] = _decode_alone(lake, turn)
        for order in ("random", "blocks"):
            cases[f"{codec} {order}"] = _ours(lake, order, 0, turn)
            if not few:
                cases[f"{codec} {order}, 2 threads"] = _ours(lake, order, 2, turn)
    cases["jpeg random, 2 worker processes"] = _workers(lakes["jpeg"], turn)
    for name in ("few", "many"):
        cases[f"{name} short episodes, {SIZED} random"] = _ours(lakes[name], "random", 0, turn, opened=0 if quick else 4 * MANY)
    cases["raw pixels, mapped"] = _raw(folder, turn)
    return cases


@contextmanager
def _peers(folder: Path, less: int) -> Iterator[tuple[dict[str, Peer], dict[str, str]]]:
    """Start every peer, and give those that run here and the reasons of those that do not."""
    started: list[Peer] = []
    try:
        peers: dict[str, Peer] = {}
        for name, (kind, samples) in PEERS.items():
            started.append(Peer(kind, folder, samples // less))
            peers[name] = started[-1].ready()
        yield {n: p for n, p in peers.items() if p.why is None}, {n: p.why for n, p in peers.items() if p.why is not None}
    finally:
        for peer in started:
            peer.close()


def _memory(folder: Path, samples: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for kind in SAVED:
        peer = Peer(kind, folder, samples).ready()
        found = peer.ask()
        peer.close()
        rows.append({"case": kind.replace(":", " "), **{k: round(v, 2) for k, v in found.items()}})
    return rows


def _row(timing: Timing, found: dict[str, Timing]) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if base := found.get(BASE):
        more = {"x_lerobot_cpu": round(timing.per_cpu_s / base.per_cpu_s, 2), "x_lerobot": round(timing.per_s / base.per_s, 2)}
    if pair := found.get(f"{BASE}, 2 workers"):
        more["x_lerobot_2_workers"] = round(timing.per_s / pair.per_s, 2)
    row = timing.row("samples", **more)
    # Worker processes' time is nobody's measurement here, so no figure is given rather than a wrong one.
    return {k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))}


def _goals(found: dict[str, Timing], memory: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def cpu(a: str, b: str) -> float:
        return found[a].per_cpu_s / found[b].per_cpu_s

    def wall(a: str, b: str) -> float:
        return found[a].per_s / found[b].per_s

    pair, stream, scattered = f"{BASE}, 2 workers", "RLDS streamed through a shuffle buffer", "RLDS random (TFDS)"
    most = [
        ("h264_gop2_random_vs_lerobot_cpu", 8, cpu, "h264-gop2 random", BASE),
        ("jpeg_random_vs_lerobot_cpu", 11, cpu, "jpeg random", BASE),
        ("jpeg_random_2_threads_vs_lerobot_2_workers", 13, wall, "jpeg random, 2 threads", pair),
        ("jpeg_blocks_2_threads_vs_lerobot_2_workers", 20, wall, "jpeg blocks, 2 threads", pair),
        ("h264_gop2_blocks_2_threads_vs_lerobot_2_workers", 20, wall, "h264-gop2 blocks, 2 threads", pair),
        ("jpeg_random_vs_streamed_rlds_cpu", 1, cpu, "jpeg random", stream),
        ("jpeg_blocks_vs_streamed_rlds_cpu", 2, cpu, "jpeg blocks", stream),
        ("jpeg_random_vs_random_rlds_cpu", 100, cpu, "jpeg random", scattered),
    ]
    goals = [
        goal(n, f">= {least}", ratio(a, b), ratio(a, b) >= least) for n, least, ratio, a, b in most if a in found and b in found
    ]
    for codec in CODECS:
        over = cpu(f"{codec} decode alone", f"{codec} random")
        goals.append(goal(f"{codec}_over_decode_alone", "<= 1.3", over, over <= 1.3))
    flat = cpu(*(f"{name} short episodes, {SIZED} random" for name in ("few", "many")))
    goals.append(goal("cost_per_sample_many_over_few_episodes", "<= 1.15", flat, flat <= 1.15))
    held, first = (max(row[key] for row in memory) for key in ("held_mb", "first_sample_ms"))
    return [*goals, goal("held_mb", "< 200", held, held < 200), goal("first_sample_ms", "< 20", first, first < 20)]


def _ours(lake: Any, mixture: str, threads: int, samples: int, *, opened: int = 0) -> Callable[[], Sample]:
    """Return a case that reads the next `samples` draws: whole windows of the block order. Threads start anew, buffers stay.

    The first `opened` draws are read beforehand, so that every episode has been opened, which costs about as much as half a sample.
    """
    from pipelines.loader.load import load

    dataset, starts = load(f"mixture:{mixture}", lake), itertools.count(opened, samples)
    loader = dataset.loader(BATCH, threads=threads)
    loader.batches = replace(loader.batches, samples=opened)
    for batch in loader:
        del batch

    def work(start: int) -> float:
        loader.batches = replace(loader.batches, start=start, samples=start + samples)
        return sum(len(b["index"]) for b in loader)

    return lambda: measure(partial(work, next(starts)))


def _workers(lake: Any, samples: int) -> Callable[[], Sample]:
    """Return a case that reads through `DataLoader` with two worker processes, as LeRobot's peer is read."""
    from torch.utils.data import DataLoader

    from pipelines.loader.load import load

    dataset, starts, workers = load("mixture:random", lake), itertools.count(0, samples), 2

    def work(start: int) -> Sample:
        stop = start + samples + warm_up(workers) * BATCH
        batches = replace(dataset.batches(BATCH), start=start, samples=stop)
        return timed_workers(
            DataLoader(
                dataset,
                batch_sampler=batches,
                collate_fn=dataset.collate,
                num_workers=workers,
                multiprocessing_context="forkserver",
            ),
            workers,
        )

    return lambda: work(next(starts))


def _decode_alone(lake: Any, samples: int) -> Callable[[], Sample]:
    """Return a case that hands the same kind of packets to the same decoders and does nothing else."""
    from catalog.tables import Catalog
    from pipelines.shards.backends.registry import backend_for
    from pipelines.shards.reader import open_shard

    rows = Catalog(lake).latest("episodes").select("episode_id", "dataset", "shard").collect().rows()
    tracks = [[open_shard(lake, d, s).track(e, c) for c in CAMERAS] for e, d, s in rows]
    backend = backend_for(tracks[0][0].info.header.codec)
    into, rng = list(np.empty((2, SIDE, SIDE, 3), np.uint8)), random.Random(0)

    def work() -> float:
        for _ in range(samples):
            step = rng.randrange(1, LENGTH)
            for track in tracks[rng.randrange(len(tracks))]:
                backend.decode(track, (step - 1, step), into, fast=True)
        return samples

    return lambda: measure(work)


def _raw(folder: Path, samples: int) -> Callable[[], Sample]:
    """Return a case that copies mapped pixels: as far as any format could get."""
    shape = (len(CAMERAS), LENGTH, SIDE, SIDE, 3)
    stored = np.memmap(folder / "raw", np.uint8, "w+", shape=shape)
    for number in range(len(CAMERAS)):
        stored[number] = film(number, LENGTH, SIDE)
    batch, rng = np.empty((BATCH, len(CAMERAS), 2, SIDE, SIDE, 3), np.uint8), random.Random(0)

    def work() -> float:
        for number in range(samples):
            step = rng.randrange(1, LENGTH)
            np.copyto(batch[number % BATCH], stored[:, step - 1 : step + 1])
        return samples

    return lambda: measure(work)


if __name__ == "__main__":
    main("read", "Random training chunks against LeRobotDataset, RLDS and decoding alone.", run)
