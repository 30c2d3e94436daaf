"""A simulator that draws numbers: frame n of scene s carries the barcode 100 s + n, so that every picture can be told apart."""

from typing import ClassVar

import numpy as np

from pipelines.record.album import declare_cameras
from pipelines.record.rollout import SEGMENTATION, Masks, Rollout, Samples
from pipelines.record.spec import RecordSpec
from schemas.contract import Contract, Feature, Stream
from tests.support.video import barcode

STEPS = 12
FAILING_SCENE = 2
TARGET = "tests.support.toy_simulator:ToySimulator"


class ToySimulator:
    """Two tasks; scene 2 is never solved."""

    name: ClassVar[str] = "toy"
    known_tasks: ClassVar[dict[str, str]] = {"stack": "please stack", "pour": "please pour"}
    default_tasks: ClassVar[tuple[str, ...]] = ("stack",)

    def __init__(self, spec: RecordSpec) -> None:
        self.spec = spec

    def contract(self, tasks: tuple[str, ...]) -> Contract:
        return Contract(
            "", "sim", "toy_arm", float(self.spec.hz),
            features=(Feature("observation.state", "float32", (3,), role="state"), Feature("action", "float32", (1,), role="action")),
            cameras=declare_cameras(self.spec),
            streams=tuple(Stream(f"object_pose.{task}", ("x", "y"), "m", privileged=True) for task in tasks),
            licence="MIT", split_keys=("task", "scene"),
        )  # fmt: skip

    def run(self, task: str, seed: int) -> Rollout:
        numbers = 100 * seed + np.arange(STEPS)
        times = np.arange(STEPS, dtype=np.int64) * 1_000_000_000 // self.spec.hz
        frames = {c: np.stack([barcode(n + 50 * i, self.spec.size) for n in numbers]) for i, c in enumerate(self.spec.cameras)}
        looks = np.arange(0, STEPS, self.spec.mask_every, dtype=np.int32)
        shape = (len(looks), self.spec.size, self.spec.size)
        masks = {
            SEGMENTATION + c: Masks(looks, np.random.default_rng(seed).integers(0, 5, shape, np.uint8)) for c in self.spec.cameras
        }
        return Rollout(
            task, seed, self.known_tasks[task], seed != FAILING_SCENE, self.spec.hz,
            columns={"observation.state": np.stack([numbers, numbers / 7, -numbers], 1).astype(np.float32), "action": (numbers[:, None] / 3).astype(np.float32)},
            reward=np.linspace(0, 1, STEPS, dtype=np.float32), frames=frames, masks=masks,
            streams=(Samples(f"object_pose.{task}", times, np.stack([numbers * 0.5, numbers * 0.25], 1)),),
            attributes={"segments": {"0": "background", "1": "thing"}, "scene": seed},
        )  # fmt: skip

    def close(self) -> None:
        pass


def toy_spec(**changes: object) -> RecordSpec:
    """Three small episodes of one task."""
    values: dict[str, object] = {"simulator": "toy", "episodes": 3, "size": 64, "segmentation_hz": 5}
    return RecordSpec(**values | changes)  # pyright: ignore[reportArgumentType]
