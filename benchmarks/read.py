"""Random training chunks read from packet shards, against LeRobot's dataset and against decoding alone.

A *sample* is 2 observation frames of 2 cameras, 256x256, with 16 future actions, from 50 episodes of 200 steps. All of ours is
whole batches of 32; LeRobot reads the same episodes, exported from the H.264 GOP 2 lake by copying packets, so at the same bytes.

    python -m benchmarks.read [--quick] [--json]
"""

import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Sample, goal, main, measure, take_turns
from benchmarks.recording import CAMERAS, FPS, SECOND, FilmSource, export_job, film, vectors

EPISODES, LENGTH, SIDE, BATCH, HORIZON = 50, 200, 256, 32, 16
WINDOW, RUN = 16, 24  # block order: 16 blocks of 24 steps, shuffled together
CODECS = ("jpeg", "h264-gop2", "h264-gop8", "av1-gop2")


@dataclass(frozen=True)
class CodedFilm(FilmSource):
    """The benchmark's film in one of `CODECS`; every episode holds the same pictures, which is the same work for a decoder."""

    codec: str = "jpeg"

    def contract(self) -> Any:
        from schemas.contract import Camera

        return replace(super().contract(), cameras=tuple(Camera(c, width=self.side, height=self.side) for c in CAMERAS))

    def read(self, group: Any) -> Iterator[Any]:  # noqa: ARG002
        from pipelines.shards.draft import EpisodeDraft, build_steps

        times, order = np.arange(self.length) * SECOND // FPS, np.arange(self.length, dtype=np.int32)
        tracks = tuple(_track(self.codec, c, film(n, self.length, self.side), times) for n, c in enumerate(CAMERAS))
        for number in range(self.episodes):
            state, action = vectors(number, self.length)
            columns = {"observation.state": state, "action": action}
            steps = build_steps(self.contract(), times, columns, language="task", frames=dict.fromkeys(CAMERAS, order))
            yield EpisodeDraft(str(number), steps, tracks, success=True, uri=f"film://{number}")


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make the lakes, let every case take turns, and compare."""
    import torch

    torch.set_num_threads(1)
    episodes, turn = (8, 256) if quick else (EPISODES, 1152)
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name:
        folder = Path(name)
        lakes = {codec: _lake(folder / codec, codec, episodes) for codec in CODECS}
        first = _first_sample(lakes["jpeg"])
        cases: dict[str, Callable[[], Sample]] = {}
        for codec, lake in lakes.items():
            cases[f"{codec} random"] = _ours(lake, "random", 0, turn)
            cases[f"{codec} decode alone"] = _decode_alone(lake, turn)
            if quick and codec not in CODECS[:2]:
                continue
            cases[f"{codec} random, 2 threads"] = _ours(lake, "random", 2, turn)
            cases[f"{codec} blocks"] = _ours(lake, "blocks", 0, turn)
            cases[f"{codec} blocks, 2 threads"] = _ours(lake, "blocks", 2, turn)
        cases["raw pixels, mapped"] = _raw(folder, turn)
        cases["LeRobotDataset pyav"] = _lerobot(lakes["h264-gop2"], folder / "lerobot", 32 if quick else 128)
        for case in () if quick else cases.values():
            case()  # pays for imports and for mapping files; where there is no time for it, the median leaves the first turn out
        found = take_turns(cases, 3 if quick else 5)
    peer = found["LeRobotDataset pyav"]
    rows = [
        t.row("samples", x_lerobot_cpu=round(t.per_cpu_s / peer.per_cpu_s, 2), x_lerobot_wall=round(t.per_s / peer.per_s, 2))
        for t in found.values()
    ]
    return [*rows, {"case": "first sample", "ms": round(first * 1e3, 2)}], _goals(found, first)


def _goals(found: dict[str, Any], first: float) -> list[dict[str, Any]]:
    peer = found["LeRobotDataset pyav"]

    def cpu(case: str) -> float:
        return found[case].per_cpu_s / peer.per_cpu_s

    def wall(case: str) -> float:
        return found[case].per_s / peer.per_s

    goals = [
        goal("h264_gop2_random_vs_lerobot_cpu", ">= 8", cpu("h264-gop2 random"), cpu("h264-gop2 random") >= 8),
        goal("jpeg_random_vs_lerobot_cpu", ">= 11", cpu("jpeg random"), cpu("jpeg random") >= 11),
        goal("jpeg_2_threads_vs_lerobot_wall", ">= 13", wall("jpeg random, 2 threads"), wall("jpeg random, 2 threads") >= 13),
        goal("jpeg_blocks_vs_lerobot_wall", ">= 20", wall("jpeg blocks, 2 threads"), wall("jpeg blocks, 2 threads") >= 20),
    ]
    for codec in CODECS:
        over = found[f"{codec} decode alone"].per_cpu_s / found[f"{codec} random"].per_cpu_s
        goals.append(goal(f"{codec}_over_decode_alone", "<= 1.3", over, over <= 1.3))
    return [*goals, goal("first_sample_ms", "< 20", first * 1e3, first < 0.02)]


def _lake(folder: Path, codec: str, episodes: int) -> Any:
    """Ingest the film and pin two mixtures of it: drawn at random, and drawn in blocks."""
    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.ingest import IngestStage
    from pipelines.mixture.mix import mix
    from pipelines.sources.base import SourceOptions
    from pipelines.unit import run_stage
    from schemas.mixture import LocalitySpec, MixtureSpec, SourceSpec, WindowSpec

    lake = Lake.at(folder)
    source = CodedFilm("film://", SourceOptions("film"), episodes, LENGTH, SIDE, codec=codec)
    run_stage(IngestStage(lake, source, check="none"), execution=Execution(workers=0))
    windows = WindowSpec(observation_s=(-1 / FPS, 0.0), action_horizon_s=HORIZON / FPS)
    for name, locality in (("random", None), ("blocks", LocalitySpec(WINDOW, RUN))):
        sources = (SourceSpec("film"),)
        mix(lake, MixtureSpec(name, 1 << 20, sources, windows=windows, statistics=False, locality=locality))
    return lake


def _ours(lake: Any, mixture: str, threads: int, samples: int) -> Callable[[], Sample]:
    """Return a case that reads the next `samples` draws: whole windows of the block order. Threads start anew, buffers stay."""
    from pipelines.loader.load import load

    dataset, starts = load(f"mixture:{mixture}", lake), itertools.count(0, samples)
    loader = dataset.loader(BATCH, threads=threads)

    def work(start: int) -> float:
        loader.batches = replace(loader.batches, start=start, samples=start + samples)
        return sum(len(b["index"]) for b in loader)

    return lambda: measure(partial(work, next(starts)))


def _first_sample(lake: Any) -> float:
    from pipelines.loader.load import load

    dataset = load("mixture:random", lake)
    start = time.perf_counter()
    dataset[7]
    return time.perf_counter() - start


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


def _lerobot(lake: Any, root: Path, samples: int) -> Callable[[], Sample]:
    """Return LeRobotDataset reading the same packets, remuxed into its own format."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(root.parent / "hf")}
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from pipelines.exporters.base import ExportOptions
    from pipelines.exporters.lerobot import LeRobotExporter

    root.mkdir()
    LeRobotExporter().export(export_job(lake, root, ExportOptions(image_frames=1)))
    windows = {f"observation.images.{c}": [-1 / FPS, 0.0] for c in CAMERAS}
    windows |= {"observation.state": [-1 / FPS, 0.0], "action": [k / FPS for k in range(HORIZON)]}
    peer = LeRobotDataset("local/film", root=root, delta_timestamps=windows, video_backend="pyav", return_uint8=True)
    rng = random.Random(0)

    def work() -> float:
        for _ in range(samples):
            peer[rng.randrange(len(peer))]
        return samples

    return lambda: measure(work)


def _track(codec: str, camera: str, frames: np.ndarray, times: np.ndarray) -> Any:
    from pipelines.shards.draft import TrackDraft
    from pipelines.shards.encode import encode_h264
    from schemas.shards import CodecHeader

    if codec.startswith("h264"):
        return encode_h264(camera, frames, times, FPS, gop=int(codec[-1]))
    if codec.startswith("av1"):
        return replace(_av1(camera, frames), pts_ns=times)
    import simplejpeg

    data = [simplejpeg.encode_jpeg(f, 90, colorsubsampling="420") for f in frames]
    order = np.arange(len(frames), dtype=np.int32)
    return TrackDraft(camera, CodecHeader("mjpeg", width=SIDE, height=SIDE), order, times, np.ones(len(frames), np.bool_), data)


def _av1(camera: str, frames: np.ndarray) -> Any:
    import av

    from pipelines.shards.demux import demux

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "film.mp4")
        options = {"preset": "12", "crf": "30", "g": "2", "svtav1-params": "lp=1"}
        with av.open(path, "w") as out:
            stream: Any = out.add_stream("libsvtav1", rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
        return demux(path).whole(camera)


if __name__ == "__main__":
    main("read", "Random training chunks against LeRobotDataset and against decoding alone.", run)
