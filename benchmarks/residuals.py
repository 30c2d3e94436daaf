"""Residual caches: what writing costs beside the teacher, and what reading saves against asking it again.

The teacher is a FastWAM of LeRobot's, built tiny from its configuration, under its student's and its teacher's mask; the peer of
reading is the same teacher computing the same rows. Run `python -m benchmarks.residuals`.
"""

import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.harness import Sample, goal, main, measure, take_turns
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.mixture.mix import mix
from pipelines.residuals.adapter import AdapterConfig, train_adapter
from pipelines.residuals.compute import compute
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.stage import CacheStage, Held
from pipelines.residuals.store import Cache, open_cache
from pipelines.residuals.teacher import Batch, Needs, Teacher, TeacherSpec
from pipelines.sources.base import SourceOptions
from pipelines.unit import run_stage
from schemas.mixture import MixtureSpec, SourceSpec
from tests.support.policies import fastwam_teacher, tiny_fastwam
from tests.support.toys import ToySource, ingest_toy

DRAWS, READ = 4, 4096
WANTED = ["residual", "v_base", "tau_a", "seed", "action_is_pad"]


@dataclass
class Timed:
    """A teacher that counts the seconds its model takes."""

    inner: Teacher
    seconds: float = 0.0

    @property
    def spec(self) -> TeacherSpec:
        return self.inner.spec

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    def prepare(self, batch: Batch) -> dict[str, Any]:
        return self._count(self.inner.prepare, batch)

    def encode(self, ready: Batch, aux: Mapping[str, Any]) -> Any:
        return self._count(self.inner.encode, ready, aux)

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:
        return self._count(self.inner.velocity, context, a_tau, tau, privileged=privileged)

    def precise(self) -> Any:
        return self.inner.precise()

    def _count(self, call: Any, *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = call(*given, **named)
        self.seconds += time.perf_counter() - started
        return found


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rounds = 2 if quick else 5
    with tempfile.TemporaryDirectory(prefix="cotrain-residuals-") as folder, pytest.MonkeyPatch.context() as patch:
        lake = film(Lake.at(Path(folder) / "lake"), 2 if quick else 6)
        policy = tiny_fastwam(
            patch, Path(folder), action_horizon=32, n_action_steps=32, num_video_frames=33, action_video_freq_ratio=4
        )
        teacher = Timed(fastwam_teacher(policy))
        writing = write_turns(lake, teacher, rounds)
        cache = open_cache(lake, "fastwam", stage_of(lake, teacher, 0).key)
        rng = np.random.default_rng(0)
        reading = take_turns(
            {
                "read rows from the cache": lambda: read(cache, rng),
                "recompute with the teacher": lambda: recompute(lake, teacher),
            },
            rounds,
        )
        adapter = measure(lambda: train(cache, 20 if quick else 100))
        return report(cache, writing, reading, adapter, lake)


def film(lake: Lake, episodes: int) -> Lake:
    """Ingest and mix toy videos of two cameras, 120 steps each."""
    ingest_toy(lake, ToySource(options=SourceOptions("film"), lengths=(120,) * episodes, per_group=episodes))
    mix(lake, MixtureSpec("film", 10, (SourceSpec("film"),), statistics=False), execution=Execution(workers=0))
    return lake


def stage_of(lake: Lake, teacher: Teacher, seed: int) -> CacheStage:
    return CacheStage(lake, "film", Held(teacher), CacheConfig(draws=DRAWS, seed=seed))


def write_turns(lake: Lake, teacher: Timed, rounds: int) -> list[tuple[float, float, float]]:
    """Cache with one seed after another; return rows, seconds, and seconds of them inside the teacher."""
    found: list[tuple[float, float, float]] = []
    for seed in range(rounds):
        stage = stage_of(lake, teacher, seed)
        units = stage.plan()
        teacher.seconds, started = 0.0, time.perf_counter()
        report_ = run_stage(replace(stage), execution=Execution(workers=0))
        found.append((report_.total("rows"), time.perf_counter() - started, teacher.seconds))
        assert report_.worked == len(units)
    return found


def read(cache: Cache, rng: np.random.Generator) -> Sample:
    rows = [rng.integers(0, len(cache), READ) for _ in range(20)]
    cache.take(rows[0], WANTED)
    return measure(lambda: float(sum(len(cache.take(r, WANTED)["residual"]) for r in rows)))


def recompute(lake: Lake, teacher: Teacher) -> Sample:
    stage = stage_of(lake, teacher, 0)
    ref = stage.episodes()[0]
    part = stage.readers[ref.dataset].read(ref, range(64))
    return measure(lambda: float(len(compute(teacher, stage.config, part)[0]["draw"])))


def train(cache: Cache, steps: int) -> float:
    train_adapter(cache, AdapterConfig(steps=steps, batch=512, width=128))
    return 512.0 * steps


def report(
    cache: Cache, writing: list[tuple[float, float, float]], reading: Any, adapter: Sample, lake: Lake
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rates, outside = [r / s for r, s, _ in writing], [1 - inside / s for _, s, inside in writing]
    shape = cache.shape
    formula = 4 * shape.chunk + 54
    uri = Catalog(lake).latest("residuals").collect()["uri"][0]
    with pa.memory_map(lake.path(uri)) as source:
        table = pa.ipc.open_file(source).read_all()
        own = table.drop_columns(["action"]).nbytes / table.num_rows
        whole = table.nbytes / table.num_rows
    got, again = reading["read rows from the cache"], reading["recompute with the teacher"]
    results = [
        {"case": "cache with the tiny teacher", "turns": len(writing), "rows_per_s": round(float(np.median(rates)), 1),
         "outside_teacher": round(float(np.median(outside)), 4)},
        got.row("rows"), again.row("rows"),
        {"case": "train an adapter from the cache", "rows_per_s": round(adapter.amount / adapter.wall_s)},
        {"case": "bytes per row", "h": shape.horizon, "a": shape.action_dim, "formula": formula, "stored": round(own, 1),
         "with_actions": round(whole, 1)},
    ]  # fmt: skip
    ratio = got.per_cpu_s / again.per_cpu_s
    return results, [
        goal("share_of_time_outside_the_teacher", "< 0.05", float(np.median(outside)), float(np.median(outside)) < 0.05),
        goal("rows_read_per_cpu_s", "> 200000", got.per_cpu_s, got.per_cpu_s > 200_000),
        goal("read_over_recompute", "> 100", ratio, ratio > 100),
        goal("bytes_per_row_over_4HA_plus_54", "< 1.1", own / formula, own / formula < 1.1),
    ]


if __name__ == "__main__":
    main("residuals", __doc__ or "", run)
