"""Small teachers over the toy datasets, and the stages that cache them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.mixture.mix import mix
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.conventions import convention
from pipelines.residuals.from_callable import from_callable
from pipelines.residuals.stage import CacheStage, Held
from pipelines.residuals.teacher import Needs, Teacher, TeacherSpec
from pipelines.unit import StageReport, run_stage
from schemas.mixture import SourceSpec, SplitSpec, WindowSpec
from tests.support.mixtures import toy_spec
from transforms.flow import Convention

HORIZON, WIDTH = 4, 4
HERE = Execution(workers=0)
NEEDS = Needs(
    ("observation.state", "action"), {"observation.state": (0, 3), "action": tuple(range(HORIZON))}
)  # its own state three steps ahead is what only the teacher sees


class TinyNet(torch.nn.Module):
    """A linear answer to (now, future, noised chunk, tau)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layer = torch.nn.Linear(2 * 4 + HORIZON * WIDTH + 1, HORIZON * WIDTH)
        with torch.no_grad():
            for p in self.layer.parameters():
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))


NETS: dict[int, TinyNet] = {}


def tiny_prepare(batch: Mapping[str, Any]) -> dict[str, Any]:
    state = batch["observation.state"].float()
    return {
        "now": state[:, 0], "future": state[:, 1], "action": batch["action"].float(), "action_is_pad": batch["action_is_pad"],
    }  # fmt: skip


def tiny_teacher(
    seed: int = 0, name: str = "tiny", net: TinyNet | None = None, policy: str = "canonical", **changes: Any
) -> Teacher:
    """A mask teacher: one network, whose view of the future is closed for the student."""
    model = net or TinyNet(seed)

    def answer(ready: Mapping[str, Any], a_tau: Any, tau: Any, privileged: bool) -> Any:
        future = ready["future"] if privileged else torch.zeros_like(ready["future"])
        seen = torch.cat([ready["now"], future, a_tau.flatten(1), tau[:, None]], 1)
        return model.layer(seen).reshape(-1, HORIZON, WIDTH)

    body = {
        "convention": convention(policy),
        "horizon": HORIZON,
        "action_dim": WIDTH,
        "privileged": ("future",),
        "mask_id": "future",
    }
    return from_callable(answer, TeacherSpec(name, **(body | changes)), weights=model, prepare=tiny_prepare, needs=NEEDS)


def mix_toys(lake: Lake, name: str = "toys") -> Lake:
    """Mix both toy datasets, a quarter of the episodes held out."""
    spec = toy_spec(name, samples=60, windows=WindowSpec(action_horizon_s=HORIZON / 20), split=SplitSpec(0.25, by="episode_id"))
    mix(lake, spec, execution=HERE)
    return lake


def stage_of(lake: Lake, teacher: Teacher, mixture: str = "toys", sources: tuple[str, ...] = (), **config: Any) -> CacheStage:
    return CacheStage(lake, mixture, Held(teacher), CacheConfig(**config), sources)


def cache(lake: Lake, teacher: Teacher, mixture: str = "toys", **config: Any) -> StageReport:
    return run_stage(stage_of(lake, teacher, mixture, **config), execution=HERE)


def only(name: str) -> tuple[SourceSpec, ...]:
    return (SourceSpec(name),)


def unpack(table: Any, name: str) -> np.ndarray:
    """A fixed-size list column as an array [n, length]."""
    column = table.column(name).combine_chunks()
    return np.asarray(column.values).reshape(len(column), -1)


def head_teacher(name: str, kind: str, seed: int = 0, **changes: Any) -> Teacher:
    """A teacher that answers with a chunk (`regression`), logits of three tokens (`categorical`) or states (`hidden`)."""
    model = TinyNet(seed)
    shape = {"regression": (HORIZON, WIDTH), "categorical": (2, 8), "hidden": (HORIZON, WIDTH)}[kind]

    def answer(ready: Mapping[str, Any], a_tau: Any, tau: Any, privileged: bool) -> Any:
        future = ready["future"] if privileged else torch.zeros_like(ready["future"])
        seen = torch.cat([ready["now"], future, torch.zeros(len(future), HORIZON * WIDTH + 1)], 1)
        return model.layer(seen).reshape(-1, *shape)

    body = {"privileged": ("future",), "mask_id": "future"} | changes
    spec = TeacherSpec(name, Convention(kind=kind), HORIZON, WIDTH, **body)
    return from_callable(answer, spec, weights=model, prepare=tiny_prepare, needs=NEEDS)


def made() -> Teacher:
    """The teacher that `python:tests.support.residuals:made` names on the command line."""
    return tiny_teacher(name="made")


def made_other() -> Teacher:
    return tiny_teacher(5, name="made-other")
