"""Near-duplicate search over many synthetic trajectories: time, memory and recall, against `datasketch.MinHashLSH` for the join.

    python benchmarks/curation.py [--quick] [--json]            10 000 episodes (--quick: 1 000)
    COTRAIN_EPISODES=100000 python benchmarks/curation.py       the full size

One episode in twenty is a copy: half the rate, noise, or its start missing. Sketching and the join run as the product's stages on a lake
in a temporary folder, with two processes.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import goal, main, measure, take_turns
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.curate.duplicates import BANDS, DuplicateStage
from pipelines.curate.sketches import SketchStage, read_sketches
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import run_stage
from schemas.contract import Contract, Feature
from transforms.curation.lsh import equal_bands

DIMS, HZ, PER_SHARD, EVERY, PEER = 7, 20, 500, 20, 5_000
SECOND = 1_000_000_000
FULL, LIMIT_S = 100_000, 20 * 60


@dataclass(frozen=True)
class Synthetic:
    """`count` episodes of minimum-jerk movements of seven joints; every twentieth is a copy of the one before."""

    count: int
    uri: str = "synthetic://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("synthetic"))
    name: ClassVar[str] = "synthetic"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("synthetic://")

    def contract(self) -> Contract:
        names = tuple(f"joint_{i}" for i in range(DIMS))
        return Contract(
            "synthetic", "sim", "arm", float(HZ),
            features=(Feature("observation.state", "float32", (DIMS,), names, role="state", representation="absolute"),),
        )  # fmt: skip

    def groups(self) -> list[Group]:
        starts = range(0, self.count, PER_SHARD)
        return [Group(f"from {a}", min(PER_SHARD, self.count - a), 1000, [a, self.count], a) for a in starts]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for index in range(group.payload, min(group.payload + PER_SHARD, self.count)):
            values = episode(index)
            times = np.arange(len(values), dtype=np.int64) * SECOND // HZ
            yield EpisodeDraft(f"{index:07d}", build_steps(self.contract(), times, {"observation.state": values}))


def episode(index: int) -> Any:
    if index % EVERY == 1:
        original, chance = motion(index - 1), np.random.Generator(np.random.Philox([index, 9]))
        kind = index // EVERY % 3
        return (
            original[::2]
            if kind == 0
            else original + 0.01 * chance.normal(size=original.shape)
            if kind == 1
            else original[len(original) // 20 :]
        )
    return motion(index)


def motion(index: int) -> Any:
    chance = np.random.Generator(np.random.Philox([index, 8]))
    count, parts = int(chance.integers(100, 300)), int(chance.integers(4, 9))
    places, cuts = chance.normal(size=(parts + 1, DIMS)), np.linspace(0, count, parts + 1).astype(int)
    rows = []
    for k in range(parts):
        s = np.linspace(0, 1, cuts[k + 1] - cuts[k])[:, None]
        rows.append(places[k] + (10 * s**3 - 15 * s**4 + 6 * s**5) * (places[k + 1] - places[k]))
    return np.concatenate(rows).astype(np.float32)


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    count = int(os.environ.get("COTRAIN_EPISODES", "1000" if quick else "10000"))
    with tempfile.TemporaryDirectory(prefix="cotrain-curation-") as folder:
        lake = Lake.at(Path(folder) / "lake")
        run_stage(IngestStage(lake, Synthetic(count), "none"), execution=Execution(workers=2))
        sketch, join = SketchStage(lake, "all", ("trajectory",)), DuplicateStage(lake, "all", ("trajectory",))
        start = time.perf_counter()
        run_stage(sketch, execution=Execution(workers=2))
        sketched = time.perf_counter() - start
        run_stage(join, execution=Execution(workers=1))
        joined = time.perf_counter() - start - sketched
        pairs = Catalog(lake).latest("duplicates").collect().height
        spent = (
            Catalog(lake).latest("runs").filter(pl.col("stage").is_in(["sketch", "duplicates"])).collect()["cpu_seconds"].sum()
        )
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        peer, agreed = against_datasketch(lake, sketch, min(count, PEER))
    wanted = len(range(1, count, EVERY))
    full = (sketched + joined) * FULL / count
    rows = [{"case": "search", "episodes": count, "sketch_s": round(sketched, 1), "join_s": round(joined, 1),
             "ms_per_episode": round(1e3 * (sketched + joined) / count, 2), "cpu_ms_per_episode": round(1e3 * spent / count, 2), "pairs": pairs, "copies": wanted, "worker_peak_mb": round(peak)}, *peer]  # fmt: skip
    ratio = peer[1]["seconds"] / max(peer[0]["seconds"], 1e-9)
    size = f"{FULL:,} episodes on 2 cores" + ("" if count == FULL else f", in proportion to {count:,}")
    whole = (
        [goal(size, "< 1200 s", full, full < LIMIT_S)] if count >= 10_000 else []
    )  # of fewer, starting processes is most of it
    goals = [
        *whole,
        goal("copies found", "> 0.95", pairs / wanted, 0.95 < pairs / wanted <= 1.02),
        goal("pairs the peer finds too", "1.0", agreed, agreed == 1.0),
        goal("join against datasketch.MinHashLSH, times faster", "> 5", ratio, ratio > 5),
    ]
    if count == FULL:
        goals.append(goal("memory of a worker, MB", "< 2048", peak, peak < 2048))
    return rows, goals


def against_datasketch(lake: Lake, stage: SketchStage, count: int) -> tuple[list[dict[str, Any]], float]:
    """Join the first sketches by sorting bands and by the peer's hash tables, in turns; the same bands, so the same pairs."""
    from datasketch import MinHash, MinHashLSH

    rows = read_sketches(lake, stage.plan(), ("episode_id", "minhash")).head(count)
    signatures = rows["minhash"].explode().to_numpy().astype(np.uint32).reshape(len(rows), -1)
    found: dict[str, set[tuple[int, int]]] = {}

    def ours() -> float:
        found["ours"] = {(int(a), int(b)) for a, b in equal_bands(signatures, BANDS)}
        return float(count)

    def theirs() -> float:
        index = MinHashLSH(num_perm=128, params=(BANDS, 128 // BANDS))
        sketches = [MinHash(num_perm=128, seed=1, scheme="affine32", hashvalues=s) for s in signatures[:1]]
        template = sketches[0]
        pairs: set[tuple[int, int]] = set()
        for i, values in enumerate(signatures):
            one = template.copy()
            one.hashvalues = values
            pairs |= {(j, i) for j in index.query(one)}
            index.insert(i, one)
        found["theirs"] = pairs
        return float(count)

    cases = {"sorted bands": lambda: measure(ours), "datasketch.MinHashLSH": lambda: measure(theirs)}
    timed = take_turns(cases, 5 if count <= PEER else 1)
    agreed = (
        1.0
        if found["ours"] == found["theirs"]
        else len(found["ours"] & found["theirs"]) / max(len(found["ours"] | found["theirs"]), 1)
    )
    return [timed[name].row("episodes") for name in cases], agreed


if __name__ == "__main__":
    main("curation", __doc__.split("\n")[0], run)
