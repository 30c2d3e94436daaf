"""What an annotation run costs beside its model, and what a second worker is worth.

A small convolutional model in torch looks at every picture of a lake of H.264 films. `bare model` runs it over pictures that were decoded
beforehand: nothing can be faster. `script` decodes an episode, runs the model, goes on: what one writes by hand. `cotrain annotate` is the whole
stage: plan, decoding ahead, checks, side tables, commits. The model and the decoder get one thread each.

Files beside this one called `annotators_<name>.py` add what they measure through a function `section(quick)`.

    python benchmarks/annotators.py [--quick] [--json]
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from annotators.base import Batch, fingerprint
from annotators.clips import Look, Needs
from annotators.evaluation import QualityReport, not_measurable
from annotators.spans import span_table
from benchmarks.harness import Sample, goal, main, measure, take_turns
from catalog.lake import Lake
from catalog.query import Query, select_episodes
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotate.pictures import read_clip, shown
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.shards.encode import encode_h264
from pipelines.shards.reader import open_shard
from pipelines.unit import run_stage
from schemas.contract import Camera, Contract
from tests.support.toys import SECOND, ToySource

SIDE, FPS, MODEL_SIDE = 256, 20, 128
HERE = Execution(workers=0)
type Section = tuple[list[dict[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Films(ToySource):
    """Films of drifting texture, one camera."""

    def contract(self) -> Contract:
        return Contract(
            "toy",
            "human",
            "none",
            float(FPS),
            cameras=(Camera("front", width=SIDE, height=SIDE, fps=float(FPS)),),
            licence="CC0-1.0",
        )

    def episode(self, index: int) -> EpisodeDraft:
        count = self.lengths[index]
        times = np.arange(count, dtype=np.int64) * SECOND // FPS
        texture = np.random.default_rng(index).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        soft = np.repeat(np.repeat(texture[::8, ::8], 8, 0), 8, 1)
        track = encode_h264("front", np.stack([np.roll(soft, 2 * n, 1) for n in range(count)]), times, FPS, gop=8)
        steps = build_steps(self.contract(), times, {}, frames={"front": np.arange(count, dtype=np.int32)})
        return EpisodeDraft(str(index), steps, (track,), uri=self.uri)


@dataclass(frozen=True)
class Conv:
    """Runs the model over what each step sees and keeps its two numbers."""

    width: int = 24
    turn: int = 0  # makes a new fingerprint, so that a run is not a no-op

    name: ClassVar[str] = "conv"
    version: ClassVar[str] = "1"
    covers: ClassVar[str] = "steps"
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema([pa.field("a", pa.float32()), pa.field("b", pa.float32())])

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        return {"width": self.width, "turn": self.turn}

    def fingerprint(self) -> str:
        return fingerprint(self.name, self.version, self.settings(), libraries=("torch",))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        return tuple(f"rgb:{look.camera}" for look in self.needs(contract).looks)

    def needs(self, contract: Contract) -> Needs:
        return Needs(tuple(Look(c.name, (MODEL_SIDE, MODEL_SIDE)) for c in contract.cameras), context_s=0.0)

    def run(self, batch: Batch) -> pa.Table:
        values = np.concatenate(
            [infer(c.pictures, self.width, batch.device, batch.at_once)[c.seen] for c in batch.clips["front"]]
        )
        rows = np.arange(batch.steps.num_rows)
        own = {"a": pa.array(values[:, 0]), "b": pa.array(values[:, 1])}
        return span_table(self, batch, rows, rows + 1, [None] * len(rows), own)  # type: ignore[arg-type]

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        return (not_measurable("conv", f"{len(heldout.episodes)} episodes, no labels"),)


@lru_cache
def model(width: int, device: str) -> Any:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, width, 5, 2, 2),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 4 * width, 3, 2, 1),
    ]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 2)).eval().to(device)


def infer(pictures: np.ndarray, width: int, device: str, at_once: int) -> np.ndarray:
    """Return float32[N, 2]."""
    import torch

    net, found = model(width, device), []
    with torch.inference_mode():
        for start in range(0, len(pictures), at_once):
            images = torch.from_numpy(pictures[start : start + at_once]).to(device).permute(0, 3, 1, 2).float().div_(255)
            found.append(net(images).float().cpu().numpy())
    return np.concatenate(found)


class Ground:
    """A lake of films, and everything decoded beforehand."""

    def __init__(self, folder: Path, episodes: int, length: int) -> None:
        self.lake = Lake.at(folder / "lake")
        run_stage(IngestStage(self.lake, Films(lengths=(length,) * episodes, per_group=max(episodes // 4, 1))), execution=HERE)
        self.rows = select_episodes(Catalog(self.lake)).select("episode_id", "shard").rows()
        self.turn = 0
        self.decoded = [self.clip(*row).pictures for row in self.rows]

    def clip(self, episode: str, shard: str) -> Any:
        opened, look = open_shard(self.lake, "toy", shard), Look("front", (MODEL_SIDE, MODEL_SIDE))
        return read_clip(opened, episode, look, shown(opened, episode, look))

    def bare(self) -> Sample:
        return measure(lambda: float(sum(len(infer(p, 24, "cpu", 64)) for p in self.decoded)))

    def script(self) -> Sample:
        return measure(lambda: float(sum(len(infer(self.clip(*row).pictures, 24, "cpu", 64)) for row in self.rows)))

    def annotate(self, execution: Execution = HERE, threads: int = 1) -> Sample:
        self.turn += 1
        stage = AnnotateStage(self.lake, Conv(turn=self.turn), device="cpu", threads=threads)  # type: ignore[arg-type]
        return measure(lambda: float(run_stage(stage, execution=execution).total("frames")))


def overhead(quick: bool) -> Section:
    """The run against its model."""
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name:
        ground = Ground(Path(name), *((16, 100) if quick else (32, 150)))
        ground.annotate()  # pays for imports
        taken = take_turns({"bare model": ground.bare, "script": ground.script, "cotrain annotate": ground.annotate}, 5)
        runs = Query(Catalog(ground.lake)).sql("SELECT wait_share, device_busy FROM runs WHERE stage = 'annotate'")
    over = taken["cotrain annotate"].wall_s / taken["bare model"].wall_s - 1
    work = taken["script"].per_cpu_s / taken["cotrain annotate"].per_cpu_s - 1
    wait, busy = runs["wait_share"].median(), runs["device_busy"].median()
    rows = [t.row("pictures") for t in taken.values()]
    rows[-1] |= {"wait_share": round(float(wait), 3), "model_busy": round(float(busy), 3)}  # type: ignore[arg-type]
    return rows, [
        goal("annotation_overhead_over_the_bare_model", "< 0.1", over, over < 0.1),
        goal("annotation_cpu_over_decoding_and_model", "< 0.1", work, work < 0.1),
        goal("decode_wait_share", "< 0.1", float(wait), float(wait) < 0.1),  # type: ignore[arg-type]
    ]


def workers(quick: bool) -> Section:
    """One Dask worker against two, clusters started and warm."""
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name, _cluster(1) as one, _cluster(2) as two:
        ground = Ground(Path(name), *((16, 60) if quick else (32, 150)))
        cases = {"1 Dask worker": one, "2 Dask workers": two}
        for execution in cases.values():
            ground.annotate(execution, threads=0)
        taken = take_turns({k: (lambda e=e: ground.annotate(e, threads=0)) for k, e in cases.items()}, 5)
    share = taken["2 Dask workers"].wall_s / taken["1 Dask worker"].wall_s
    return [t.row("pictures") for t in taken.values()], [
        goal("wall_time_with_two_workers_over_one", "< 0.75", share, share < 0.75)
    ]


@contextmanager
def _cluster(count: int) -> Iterator[Execution]:
    from distributed import LocalCluster

    options: dict[str, Any] = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster:
        yield Execution("dask", scheduler=cluster.scheduler_address)


def run(quick: bool) -> Section:
    """Measure every section, those of the files beside this one included."""
    results, goals = list[dict[str, Any]](), list[dict[str, Any]]()
    others = [import_module(f"benchmarks.{p.stem}").section for p in sorted(Path(__file__).parent.glob("annotators_*.py"))]
    for section in (overhead, workers, *others):
        rows, met = section(quick)
        results += rows
        goals += met
    return results, goals


if __name__ == "__main__":
    main("annotators", __doc__ or "", import_module("benchmarks.annotators").run)  # workers know the classes by this name
