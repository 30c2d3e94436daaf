"""Mixtures at scale: compiling one over a million episodes (200 million steps), and what a draw costs.

A synthetic catalog (rows alone, no shards) in a temporary lake; each compilation runs in a process of its own, so that its peak
memory is its own. Peers: `torch.randperm`, which every epoch of a map-style dataset of that size starts with, and independent draws
(`numpy` choice of a source, then of an item), which mixing loaders of the field make.

Run: python -m benchmarks.mixtures [--quick] [--json]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import goal, main, measure, take_turns
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.plan import Phase, Plan, PlanSource
from schemas.contract import Contract, Feature
from schemas.mixture import MixtureSpec, ResamplingSpec, SourceSpec, SplitSpec, WeightSpec
from transforms.interleave import quantise

DATASETS, EPISODES, MEAN_STEPS, PER_SHARD = 8, 1_000_000, 200, 500
QUICK = 50_000
BLOCK, DRAWS = 4_096, 1 << 18
CASES = ("plain", "split", "weighted")


def spec_of(case: str, samples: int) -> MixtureSpec:
    """Eight sources; split holds out 2 % by group, weighted weighs every step by a score and a column."""
    sources = tuple(SourceSpec(f"set{k}", weight=1.0 + k, max_epochs=40.0) for k in range(DATASETS))
    spec = MixtureSpec(f"big-{case}", samples, sources, seed=3, temperature=0.5, statistics=False)
    if case == "plain":
        return spec
    spec = replace(spec, split=SplitSpec(0.02))
    terms = (WeightSpec(score="density_ratio", low=-2, high=2), WeightSpec(column="duration_s / steps", form="linear"))
    return replace(spec, weights=terms, resampling=ResamplingSpec(0.05, 0.0)) if case == "weighted" else spec


def fill(lake: Lake, episodes: int) -> int:
    """Write the catalog; returns the number of steps."""
    rng, catalog, steps_in_all = np.random.default_rng(0), Catalog(lake), 0
    each = episodes // DATASETS
    for k in range(DATASETS):
        name, numbers = f"set{k}", np.arange(each)
        steps = rng.integers(MEAN_STEPS // 2, MEAN_STEPS * 3 // 2, each)
        first = np.concatenate([part.cumsum() - part for part in np.split(steps, range(PER_SHARD, each, PER_SHARD))])
        ids = [f"ep-{k:02d}{n:018x}" for n in numbers]
        rows = {
            "episode_id": ids, "dataset": [name] * each, "source": ["robot"] * each, "key": [str(n) for n in numbers],
            "shard": [f"{n // PER_SHARD:08d}" for n in numbers], "steps": steps, "first_row": first, "duration_s": steps / 20.0,
            "control_hz": np.full(each, 20.0), "cameras": [["front", "wrist"]] * each, "task": [f"task {n % 300}" for n in numbers],
            "tasks": [[f"task {n % 300}"] for n in numbers], "success": [True] * each, "split_group": [f"scene {n // 7}" for n in numbers],
            "embodiment": ["arm"] * each, "licence": ["Apache-2.0"] * each, "uri": [f"s3://bucket/{name}/{n}" for n in numbers],
            "content_hash": [f"{k:02d}{n:062x}" for n in numbers], "has_action": [True] * each, "bytes": steps * 9_000,
        }  # fmt: skip
        catalog.append("episodes", pa.table(rows), f"u-{name}")
        scores = {
            "method": ["density_ratio"] * each, "fingerprint": ["f"] * each, "episode_id": ids, "start_ns": np.zeros(each, np.int64),
            "end_ns": steps * 50_000_000, "value": rng.normal(size=each),
        }  # fmt: skip
        catalog.append("scores", pa.table(scores), f"s-{name}")
        contract = Contract(name, "robot", "arm", 20.0, (Feature("action", "float32", (7,), role="action"),))
        catalog.append("datasets", pa.table({"dataset": [name], "contract": [contract.to_json()]}), f"d-{name}")
        steps_in_all += int(steps.sum())
    return steps_in_all


def compile_once(root: str, case: str, samples: int) -> dict[str, Any]:
    """Compile in this process and write the index; time, and peak memory of the whole process."""
    from pipelines.mixture.mix import mix

    began = time.perf_counter()
    report = mix(Lake.at(root), spec_of(case, samples))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "case": case, "seconds": round(time.perf_counter() - began, 2), "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024), "hash": report.hash,
        "draws": sum(s.draws for s in report.shares),
    }  # fmt: skip


def compiled(root: Path, case: str, samples: int) -> dict[str, Any]:
    """Compile in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.mixtures", "--compile", case, str(root), str(samples)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def sampler_cases(items: int) -> dict[str, Any]:
    """What draws cost: ours by blocks, against the peers; one turn is `DRAWS` draws."""
    import torch

    weights = np.arange(1, DATASETS + 1) / 36
    sources = tuple(PlanSource(f"s{k}", f"src-{k}", items // DATASETS) for k in range(DATASETS))
    plan = Plan(7, sources, (Phase(items, tuple(quantise(weights).tolist())),))
    rng = np.random.default_rng(0)

    def ours() -> float:
        start = int(rng.integers(0, items - DRAWS))
        for at in range(start, start + DRAWS, BLOCK):
            plan.draw(np.arange(at, at + BLOCK))
        return DRAWS

    def independent() -> float:
        source = rng.choice(DATASETS, DRAWS, p=weights)
        _ = (rng.random(DRAWS) * (items // DATASETS)).astype(np.int64) + source
        return DRAWS

    def shuffled() -> float:
        torch.randperm(items)
        return items

    return {
        "plan.draw": lambda: measure(ours),
        "independent draws": lambda: measure(independent),
        "randperm": lambda: measure(shuffled),
    }


def draw_memory() -> float:
    """MB that drawing from 10^12 items takes."""
    tracemalloc.start()
    plan = Plan(0, (PlanSource("x", "x", 10**12),), (Phase(10**13, (1,)),))
    plan.draw(np.arange(10**12, 10**12 + BLOCK))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Fill a catalog, compile every case over it, and let the sampler and its peers take turns."""
    episodes = QUICK if quick else EPISODES
    with tempfile.TemporaryDirectory() as folder:
        steps = fill(Lake.at(folder), episodes)
        results = [compiled(Path(folder), case, steps) for case in CASES]
    timings = take_turns(sampler_cases(10**7 if quick else 10**8))
    micro = {name: t.wall_s / t.amount * 1e6 for name, t in timings.items()}
    worst, most = max(r["seconds"] for r in results), max(r["peak_mb"] for r in results) / 1024
    goals = [
        goal("compile", f"{episodes:,} episodes ({steps:,} steps) in under 60 s", worst, worst < 60),
        goal("memory", "and under 2 GB at its peak", most, most < 2),
        goal("draw", "at most 2 us per draw in blocks of 4 096", micro["plan.draw"], micro["plan.draw"] <= 2),
        goal("draw memory", "under 5 MB for 10^12 items", memory := draw_memory(), memory < 5),
    ]
    per_cpu = {name: round(1e6 / t.per_cpu_s, 3) for name, t in timings.items()}
    return results + [t.row("draws", cpu_us_per_draw=per_cpu[name]) for name, t in timings.items()], goals


if __name__ == "__main__":
    if "--compile" in sys.argv:
        case, root, samples = sys.argv[2:5]
        print(json.dumps(compile_once(root, case, int(samples))))
    else:
        main("mixtures", __doc__ or "", run)
