"""Whether reading leaks: open files, threads and private memory over 100 000 samples, in random and in block order.

python -m benchmarks.read_leak [--quick] [--json]
"""

import gc
import itertools
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import goal, main
from benchmarks.read_data import RUN, WINDOW, build_lake
from benchmarks.read_peers import BATCH, resident

SAMPLES, EPISODES, STRETCHES = 100_000, 50, 10
WHOLE = WINDOW * RUN  # a stretch ends with a window of the block order, so that blocks in use are as many after each
CASES = (("jpeg", "random"), ("h264-gop2", "random"), ("h264-gop8", "blocks"))


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read each case in ten stretches and note after each what the process holds."""
    import torch

    torch.set_num_threads(1)
    samples = SAMPLES // 25 if quick else SAMPLES
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-leak-") as name:
        for codec, order in CASES:
            lake = build_lake(Path(name) / f"{codec}-{order}", codec, EPISODES)
            rows.append({"case": f"{codec} {order}, 2 threads", **_read(lake, order, samples)})
    grown = max(row["held_mb"][-1] - row["held_mb"][2] for row in rows)
    files = max(row["files"][-1] - row["files"][2] for row in rows)
    threads = max(row["threads_left"] for row in rows)
    return rows, [
        goal("private_memory_grown_mb", "< 20", grown, grown < 20),
        goal("files_grown", "== 0", files, files == 0),
        goal("threads_left", "== 0", threads, threads == 0),
    ]


def _read(lake: Any, order: str, samples: int) -> dict[str, list[float] | int]:
    from pipelines.loader.load import load

    dataset, before = load(f"mixture:{order}", lake), threading.active_count()
    loader = dataset.loader(BATCH, threads=2)
    per_stretch = -(-samples // len(CASES) // STRETCHES // WHOLE) * WHOLE
    held: list[float] = []
    files: list[float] = []
    for start in itertools.islice(itertools.count(0, per_stretch), STRETCHES):
        loader.batches = replace(loader.batches, start=start, samples=start + per_stretch)
        for batch in loader:
            del batch
        gc.collect()
        held.append(round(resident()[0], 1))
        files.append(len(list(Path("/proc/self/fd").iterdir())))
    return {
        "samples": per_stretch * STRETCHES,
        "held_mb": held,
        "files": files,
        "threads_left": threading.active_count() - before,
    }


if __name__ == "__main__":
    main("read_leak", "Open files, threads and private memory over 100 000 samples.", run)
