"""Exact search in an embedding memory: a million vectors of 384 numbers in float16, 32 questions at once, the ten nearest of each.

Peers, on the same vectors: numpy (float32 blocks and argpartition), torch (float32 blocks and topk), faiss's exact index of float16
codes. All use two threads. Results of every peer are compared with ours.

Run: python -m benchmarks.memory [--quick] [--json]
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import goal, main, measure, take_turns
from pipelines.memory.codes import encode
from pipelines.memory.search import lengths, nearest

WIDTH, QUESTIONS, TOP, BLOCK, THREADS = 384, 32, 10, 1 << 16, 2
GOAL_MS = 100


def memory(count: int, folder: Path) -> np.ndarray:
    """Write clustered unit vectors to a file and map it, as a memory is mapped."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2000, WIDTH)).astype(np.float32)
    path = folder / "keys.arrow"
    schema = pa.schema([pa.field("key", pa.list_(pa.float16(), WIDTH))])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            block = centres[rng.integers(0, len(centres), size)] + 0.7 * rng.normal(size=(size, WIDTH)).astype(np.float32)
            block = (block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float16)
            out.write_batch(
                pa.record_batch([pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), WIDTH)], schema=schema)
            )
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
    return table.column(0).chunk(0).flatten().to_numpy(zero_copy_only=True).reshape(count, WIDTH)


def with_numpy(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Blocks of float32, the best of each block kept."""
    rows, scores = [], []
    for start in range(0, len(keys), BLOCK):
        found = keys[start : start + BLOCK].astype(np.float32) @ queries.T
        best = np.argpartition(-found, min(TOP, len(found) - 1), axis=0)[:TOP]
        rows.append(best + start)
        scores.append(np.take_along_axis(found, best, axis=0))
    return _best(np.concatenate(rows), np.concatenate(scores))


def with_torch(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Blocks of float32 and `topk`."""
    import torch

    asked, rows, scores = torch.from_numpy(queries.T.copy()), [], []
    for start in range(0, len(keys), BLOCK):
        found = torch.from_numpy(keys[start : start + BLOCK].copy()).float() @ asked
        best = found.topk(TOP, dim=0)
        rows.append(best.indices.numpy() + start)
        scores.append(best.values.numpy())
    return _best(np.concatenate(rows), np.concatenate(scores))


def with_faiss(keys: np.ndarray) -> Any:
    """Return a function that asks faiss's exact index of float16 codes."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexScalarQuantizer(WIDTH, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.train(keys[:1000].astype(np.float32))
    for start in range(0, len(keys), BLOCK):
        index.add(keys[start : start + BLOCK].astype(np.float32))
    return lambda queries: index.search(queries, TOP)[1]


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ask every peer the same questions, taking turns."""
    import torch

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        keys = memory(100_000 if quick else 1_000_000, Path(folder))
        rng, longest = np.random.default_rng(1), lengths(keys)
        asked = keys[rng.integers(0, len(keys), QUESTIONS)]
        queries = (asked + 0.02 * rng.normal(size=asked.shape)).astype(np.float32)
        codes, index = encode(keys), with_faiss(keys)
        ask = {
            "cotrain": lambda: nearest(keys, queries, TOP, longest, codes).rows,
            "cotrain, nothing kept": lambda: nearest(keys, queries, TOP, longest).rows, "numpy": lambda: with_numpy(keys, queries),
            "torch": lambda: with_torch(keys, queries), "faiss, exact, float16": lambda: index(queries),
        }  # fmt: skip
        ours = ask["cotrain"]()
        agreed = {
            name: float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(ours, work(), strict=True)]))
            for name, work in ask.items()
        }
        found = take_turns(
            {name: lambda work=work: measure(lambda: QUESTIONS + 0 * len(work())) for name, work in ask.items()}, 7
        )
    rows = [t.row("questions", same=round(agreed[name], 4), ms_per_batch=round(t.wall_s * 1e3, 1)) for name, t in found.items()]
    mine = found["cotrain"].wall_s
    goals = [goal("a batch of 32 questions", f"under {GOAL_MS} ms", mine * 1e3, mine * 1e3 < GOAL_MS)]
    goals += [
        goal(f"over {name}", "above 1", t.wall_s / mine, t.wall_s > mine)
        for name, t in found.items()
        if not name.startswith("cotrain")
    ]
    return rows, goals


def _best(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, axis=0, kind="stable")[:TOP]
    return np.take_along_axis(rows, order, axis=0).T


if __name__ == "__main__":
    main("memory", __doc__ or "", run)
