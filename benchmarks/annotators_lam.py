"""Latent actions: annotating against a script that goes pair by pair through a LeRobotDataset with the same model; and what training costs.

The lake and the LeRobot dataset hold the same H.264 packets of 256x256 films at 20 Hz. The script is what one writes by hand: take a pair
of pictures 0.4 s apart, make them small, encode both, infer. `cotrain annotate` does the same for every picture, and for five a second. With
*judged*, both also decode, say what was explained and how far the camera moved: work per pair that nobody can share, most of it optical flow.
Pairs per second of processor time, one thread each.

    python benchmarks/annotators.py runs this among the others; alone: python benchmarks/annotators_lam.py [--quick] [--json]
"""

import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from annotators.latent import checkpoint
from annotators.latent.config import Lam
from annotators.latent.latent_action import LatentAction, LatentActionConfig
from benchmarks.harness import Sample, goal, main, measure, take_turns
from catalog.lake import Lake
from pipelines.annotate import AnnotateStage
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.lam import train_lam
from pipelines.lam.train import TrainingOptions
from pipelines.unit import run_stage

HORIZON_S, SIDE, CAMERA = 0.4, 64, "front"
HERE = Execution(workers=0)
type Section = tuple[list[dict[str, Any]], list[dict[str, Any]]]


class Ground:
    """One lake, the same packets as a LeRobot dataset, and a model."""

    def __init__(self, folder: Path, episodes: int, asked: int) -> None:
        import torch

        from annotators.latent.model import build
        from benchmarks.annotators import FPS, Films

        torch.set_num_threads(1)
        self.lam = Lam().changed({"horizons_s": (HORIZON_S,), "side": SIDE})
        self.lake, self.asked, self.turn, self.fps = Lake.at(folder / "lake"), asked, count(), float(FPS)
        run_stage(IngestStage(self.lake, Films(lengths=(100,) * episodes, per_group=episodes)), execution=HERE)
        self.folder, self.root = folder / "model", folder / "lerobot"
        _export(self.lake, self.root)
        checkpoint.save(self.folder, self.lam, build(self.lam).state_dict())
        self.model = checkpoint.load(self.folder)
        self.set, self.starts = self._lerobot()

    def annotate(self, hz: float, judged: bool) -> Sample:
        """Annotate the whole lake as a new annotator, or it would be a no-op."""
        least = -1e6 - next(self.turn)
        config = LatentActionConfig(str(self.folder), (CAMERA,), hz, "invalid", judged, least, judged)
        stage = AnnotateStage(self.lake, LatentAction(config), device="cpu", threads=1)
        return measure(lambda: float(run_stage(stage, execution=HERE).total("rows")))

    def script(self, judged: bool) -> Sample:
        """Go through as many pairs as were asked for, spread evenly."""
        return measure(lambda: float(sum(self._pair(i, judged) for i in self.starts)))

    def _lerobot(self) -> tuple[Any, list[int]]:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        windows = {f"observation.images.{CAMERA}": [0.0, HORIZON_S]}
        held = LeRobotDataset("local/toy", root=self.root, delta_timestamps=windows, return_uint8=True)
        return held, np.linspace(0, len(held) - 1, self.asked).astype(int).tolist()

    def _pair(self, index: int, judged: bool) -> int:
        import cv2
        import torch

        from transforms.optical_flow import camera_shift, dense_flow, grey

        item = self.set[index]
        if bool(item[f"observation.images.{CAMERA}_is_pad"][1]):
            return 1  # a row, although an invalid one
        shown = item[f"observation.images.{CAMERA}"].permute(0, 2, 3, 1).numpy()
        small = [cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in shown]
        a, b = (torch.from_numpy(p)[None].permute(0, 3, 1, 2).float() / 255 for p in small)
        with torch.inference_mode():
            which = torch.zeros(1, dtype=torch.int64)
            latent = self.model.infer(self.model.encode(a), self.model.encode(b), which)
            if not judged:
                return 1
            later = self.model.predict(a, latent.value, which).later
            mask = (b - a).abs().amax(1) > self.lam.training.motion_above
            [float((x - b).abs().mean(1)[mask].mean()) for x in (later, a)]
        np.hypot(*camera_shift(dense_flow(*(grey(p) for p in small))))
        return 1


def _export(lake: Lake, root: Path) -> None:
    """Remux the same packets into a LeRobot v3.0 dataset."""
    from catalog.query import select_episodes
    from catalog.tables import Catalog
    from pipelines.exporters.base import ExportEpisode, ExportJob, ExportOptions
    from pipelines.exporters.lerobot import LeRobotExporter

    rows = select_episodes(Catalog(lake), "toy").to_dicts()
    episodes = tuple(ExportEpisode(r["episode_id"], r["dataset"], r["shard"], r) for r in rows)
    root.mkdir()
    contract = episodes[0].open(lake).contract
    LeRobotExporter().export(ExportJob(lake, "toy", contract, episodes, root, ExportOptions(image_frames=1)))


def _counted(model: Any, work: Callable[[], Sample]) -> float:
    before = model.encoded
    amount = work().amount
    return (model.encoded - before) / amount


def section(quick: bool) -> Section:
    """Measure annotation against the script, and one short training run."""
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as name:
        ground = Ground(Path(name), 4 if quick else 16, 50 if quick else 200)
        cases: dict[str, Callable[[], Sample]] = {
            "script over LeRobotDataset": lambda: ground.script(judged=False),
            "latent_action, every picture": lambda: ground.annotate(ground.fps, judged=False),
            "latent_action, 5 a second": lambda: ground.annotate(5.0, judged=False),
            "script over LeRobotDataset, judged": lambda: ground.script(judged=True),
            "latent_action, every picture, judged": lambda: ground.annotate(ground.fps, judged=True),
        }
        encoded = {case: _counted(ground.model, work) for case, work in cases.items()}  # pays for imports too
        taken = take_turns(cases, 3 if quick else 5)
        steps = 10 if quick else 60
        lam = ground.lam.changed({"steps": steps, "batch": 32, "derive": 0})
        trained = train_lam(ground.lake, "all", lam, Path(name) / "trained", TrainingOptions((CAMERA,), None, "cpu", 1))
    rows = [t.row("pairs", encoded_per_pair=round(encoded[t.name], 3)) for t in taken.values()]
    rows.append(
        {
            "case": "train-lam toy", "steps": trained.steps, "frames_per_s": round(trained.frames_per_s, 1), "device": trained.device,
            "device_busy": round(trained.device_busy, 3), "wait_share": round(trained.wait_share, 3),
        }
    )  # fmt: skip
    plain, every, few, judged, both = (taken[c].per_cpu_s for c in cases)
    return rows, [
        goal("latent_action_over_pair_by_pair", "> 8 pairs per CPU second, every picture", every / plain, every > 8 * plain),
        goal("latent_action_over_pair_by_pair_5_hz", "> 4, five pictures a second", few / plain, few > 4 * plain),
        goal("latent_action_over_pair_by_pair_judged", "> 2, with gain and camera motion", both / judged, both > 2 * judged),
    ]


if __name__ == "__main__":
    main("annotators_lam", __doc__ or "", import_module("benchmarks.annotators_lam").section)
