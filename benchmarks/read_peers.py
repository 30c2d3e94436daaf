"""What the reading benchmark compares with, each in a process of its own: LeRobotDataset, RLDS through tf.data, and our memory.

A peer answers every line on standard input with one turn as JSON: how many samples, wall seconds, processor seconds of the process
(not a number where worker processes read). Nobody pays for another's imports, threads or memory.

    python -m benchmarks.read_peers KIND FOLDER SAMPLES
"""

import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from benchmarks.harness import Sample
from benchmarks.read_data import HORIZON, LENGTH
from benchmarks.recording import CAMERAS, FPS, ROOT

BATCH = 32
BUFFER = 2_000  # samples in the shuffle buffer of the streamed RLDS: 10 episodes' worth
QUIET = {
    "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "NO_GCE_CHECK": "true",
    "CUDA_VISIBLE_DEVICES": "-1", "SVT_LOG": "0",
}  # fmt: skip
type Turn = Callable[[], Sample]


class Peer:
    """One peer's process. `why` says what keeps it from running here, None if nothing does."""

    def __init__(self, kind: str, folder: Path, samples: int) -> None:
        self.kind, self.why = kind, None
        command = [sys.executable, "-m", "benchmarks.read_peers", kind, str(folder), str(samples)]
        environment = os.environ | QUIET | {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder / "hf")}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment, text=True
        )

    def ready(self) -> Self:
        """Wait until it has imported and opened what it needs."""
        try:
            self._answer()
        except RuntimeError as error:
            self.why = str(error)
        return self

    def turn(self) -> Sample:
        """Let it read once."""
        return Sample(*self.ask()["sample"])

    def ask(self) -> dict[str, Any]:
        """Return one whole answer.

        Raises:
            RuntimeError: it has ended; the message is the end of its log.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"{self.kind}: {said[-1] if said else 'ended without a word'}")
        return json.loads(line)


def timed(work: Callable[[], float]) -> Sample:
    """Run `work`, which returns how much it did; processor time is that of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    amount = work()
    return Sample(amount, time.perf_counter() - wall, time.process_time() - cpu)


def lerobot(folder: Path, samples: int, backend: str, workers: int) -> Turn:
    """Return LeRobotDataset at random: item by item, or batches of its `DataLoader` with worker processes."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    torch.set_num_threads(1)
    windows = {f"observation.images.{c}": [-1 / FPS, 0.0] for c in CAMERAS}
    windows |= {"observation.state": [-1 / FPS, 0.0], "action": [k / FPS for k in range(HORIZON)]}
    root = folder / "lerobot"

    def open_it() -> Any:
        return LeRobotDataset("local/film", root=root, delta_timestamps=windows, video_backend=backend, return_uint8=True)

    peer, rng = open_it(), random.Random(0)
    if workers:
        return lambda: _batches(open_it(), workers, samples)

    def work() -> float:
        for _ in range(samples):
            peer[rng.randrange(len(peer))]
        return samples

    work()  # opens its decoders
    return lambda: timed(work)


def _batches(dataset: Any, workers: int, samples: int) -> Sample:
    from torch.utils.data import DataLoader, RandomSampler

    sampler = RandomSampler(dataset, replacement=True, num_samples=samples + warm_up(workers) * BATCH)
    return timed_workers(DataLoader(dataset, batch_size=BATCH, sampler=sampler, num_workers=workers), workers)


def warm_up(workers: int) -> int:
    """Return how many batches worker processes start up and open files for."""
    return 2 * workers


def timed_workers(loader: Any, workers: int) -> Sample:
    """Time a `DataLoader` by the clock, after its workers have warmed up. Processor time is not a number: nobody measures theirs."""
    batches = iter(loader)
    for _ in range(warm_up(workers)):
        next(batches)
    start = time.perf_counter()
    count = sum(len(b["index"]) for b in batches)
    return Sample(count, time.perf_counter() - start, math.nan)


def rlds_random(folder: Path, samples: int) -> Turn:
    """Return RLDS read at random: TFDS opens one episode of the split, and the sample's pictures are decoded."""
    import numpy as np

    tf: Any = import_module("tensorflow")
    import tensorflow_datasets as tfds

    _one_thread(tf)
    builder, decoders = _builder(folder, tfds)
    episodes, rng = builder.info.splits["train"].num_examples, random.Random(0)

    def work() -> float:
        for _ in range(samples):
            at, step = rng.randrange(episodes), rng.randrange(1, LENGTH)
            episode = builder.as_dataset(split=f"train[{at}:{at + 1}]", decoders=decoders)
            whole = next(iter(episode))["steps"].batch(LENGTH).get_single_element()
            for camera in CAMERAS:
                for data in whole["observation"][camera][step - 1 : step + 1]:
                    tf.io.decode_jpeg(data).numpy()
            np.asarray(whole["action"][step : step + HORIZON])
        return samples

    return lambda: timed(work)


def rlds_stream(folder: Path, samples: int) -> Turn:
    """Return RLDS as Octo reads it: episodes in shuffled file order, cut to chunks, through a shuffle buffer, decoded after it."""
    tf: Any = import_module("tensorflow")
    import tensorflow_datasets as tfds

    _one_thread(tf)
    builder, decoders = _builder(folder, tfds)

    def chunks(episode: Any) -> Any:
        steps = episode["steps"].batch(LENGTH).get_single_element()
        length = tf.shape(steps["action"])[0]
        anchors = tf.range(length)[:, None]
        seen = tf.clip_by_value(tf.add(anchors, [[-1, 0]]), 0, length - 1)
        acted = tf.clip_by_value(tf.add(anchors, tf.range(HORIZON)[None]), 0, length - 1)
        found = {c: tf.gather(steps["observation"][c], seen) for c in CAMERAS}
        found |= {"state": tf.gather(steps["observation"]["state"], seen), "action": tf.gather(steps["action"], acted)}
        return tf.data.Dataset.from_tensor_slices(found)

    def decode(sample: Any) -> Any:
        pictures = {c: tf.stack([tf.io.decode_jpeg(sample[c][0]), tf.io.decode_jpeg(sample[c][1])]) for c in CAMERAS}
        return sample | pictures

    config = tfds.ReadConfig(interleave_cycle_length=1)
    stream = builder.as_dataset(split="train", decoders=decoders, shuffle_files=True, read_config=config).repeat()
    stream = stream.interleave(chunks, cycle_length=4, num_parallel_calls=1).shuffle(BUFFER, seed=0)
    batches = iter(stream.map(decode, num_parallel_calls=1).batch(BATCH).prefetch(1))

    def work() -> float:
        return sum(int(b["action"].shape[0]) for b in itertools.islice(batches, samples // BATCH))

    work()
    return lambda: timed(work)


def _builder(folder: Path, tfds: Any) -> tuple[Any, Any]:
    found = next((folder / "rlds").rglob("dataset_info.json")).parent
    builder = tfds.builder_from_directory(str(found))
    return builder, {"steps": {"observation": {c: tfds.decode.SkipDecoding() for c in CAMERAS}}}


def _one_thread(tf: Any) -> None:
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def memory(folder: Path, samples: int, codec: str, mixture: str, threads: int) -> Callable[[], dict[str, Any]]:
    """Return what reading adds to the memory of a process that has imported everything, and how long the first sample takes."""
    import torch

    from catalog.lake import Lake
    from pipelines.loader.load import load
    from pipelines.loader.loader import Loader
    from pipelines.shards.backends.registry import backend_for

    torch.set_num_threads(1)
    assert Loader is not None
    if find_spec("pandas") is not None:
        import_module("pandas")  # pyarrow imports it, where it is installed, with the first column that becomes an array
    backend_for({"jpeg": "mjpeg", "h264": "h264", "av1-": "av1"}[codec[:4]])

    def answer() -> dict[str, Any]:
        before, start = resident(), time.perf_counter()
        dataset = load(f"mixture:{mixture}", Lake.at(folder / codec))
        opened = time.perf_counter()
        dataset[7]
        first = time.perf_counter() - opened
        most = (0.0, 0.0)
        for batch in itertools.islice(dataset.loader(BATCH, threads=threads), samples // BATCH):
            most = tuple(map(max, most, resident()))
            del batch
        added = [round(b - a, 1) for a, b in zip(before, most, strict=True)]
        return {"open_ms": (opened - start) * 1e3, "first_sample_ms": first * 1e3, "held_mb": added[0], "mapped_mb": added[1]}

    return answer


def resident() -> tuple[float, float]:
    """Anonymous and file-backed resident memory, MB."""
    status = Path("/proc/self/status").read_text()
    values = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Rss")}
    return int(values["RssAnon"]) / 1024, int(values["RssFile"]) / 1024


def _make(kind: str, folder: Path, samples: int) -> Callable[[], dict[str, Any]]:
    name, *rest = kind.split(":")
    if name == "memory":
        return memory(folder, samples, rest[0], rest[1], int(rest[2]))
    turns: dict[str, Callable[[], Turn]] = {
        "lerobot": lambda: lerobot(folder, samples, rest[0], int(rest[1])),
        "rlds-random": lambda: rlds_random(folder, samples),
        "rlds-stream": lambda: rlds_stream(folder, samples),
    }
    turn = turns[name]()

    def answer() -> dict[str, Any]:
        found = turn()
        return {"sample": [found.amount, found.wall_s, found.cpu_s]}

    return answer


def _serve(kind: str, folder: Path, samples: int) -> None:
    real = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(real, "w") as out:
        answer = _make(kind, folder, samples)
        print("{}", file=out, flush=True)
        for _ in sys.stdin:
            print(json.dumps(answer()), file=out, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
