"""The tower world: observation o, future f and action a = W o + U f + noise are Gaussian, so every best velocity has a closed form.

A student that knows o and a teacher that knows o and f are both exact. By the tower property the teacher's advantage over the best
student averages to nothing given all the student sees; over a student that ignores half of o it does not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.mixture.mix import mix
from pipelines.residuals.from_callable import from_callable
from pipelines.residuals.teacher import Needs, Teacher, TeacherSpec
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import run_stage
from schemas.contract import Contract, Feature
from schemas.mixture import MixtureSpec, SourceSpec
from transforms.flow import Convention

SEEN, HIDDEN, ACTIONS, SPREAD = 6, 4, 7, 0.3
TAU = "beta(1,1,0.9,0.05)"  # uniform from 0.05 to 0.95
_generator = torch.Generator().manual_seed(0)
W = torch.randn(ACTIONS, SEEN, generator=_generator).double() / SEEN**0.5
U = torch.randn(ACTIONS, HIDDEN, generator=_generator).double() / HIDDEN**0.5
ALONE = U @ U.T + SPREAD**2 * torch.eye(ACTIONS, dtype=torch.float64)  # covariance of a given o
TOLD = SPREAD**2 * torch.eye(ACTIONS, dtype=torch.float64)  # given o and f


@dataclass(frozen=True)
class TowerSource:
    """Episodes of independent draws from the tower world."""

    uri: str = "tower://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("tower"))
    episodes: int = 40
    steps: int = 20
    seed: int = 0
    name: ClassVar[str] = "tower"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("tower://")

    def contract(self) -> Contract:
        return Contract(
            self.options.dataset, "sim", "tower", 10.0, features=(
                Feature("observation.state", "float32", (SEEN,), role="state"),
                Feature("observation.future", "float32", (HIDDEN,), privileged=True),
                Feature("action", "float32", (ACTIONS,), role="action", representation="absolute"),
            ), licence="Apache-2.0",
        )  # fmt: skip

    def groups(self) -> list[Group]:
        return [Group("all", self.episodes, 1000, [self.seed, self.episodes, self.steps], None)]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        rng = np.random.default_rng(self.seed)
        for index in range(self.episodes):
            o, f = rng.standard_normal((self.steps, SEEN)), rng.standard_normal((self.steps, HIDDEN))
            a = o @ W.numpy().T + f @ U.numpy().T + SPREAD * rng.standard_normal((self.steps, ACTIONS))
            times = np.arange(self.steps, dtype=np.int64) * 100_000_000
            columns = {"observation.state": o, "observation.future": f, "action": a}
            yield EpisodeDraft(str(index), build_steps(self.contract(), times, columns), (), uri=self.uri)


def tower_lake(lake: Lake, **changes: int) -> Lake:
    """Ingest the tower world and mix all of it as `tower`."""
    run_stage(IngestStage(lake, TowerSource(**changes)), execution=Execution(workers=0))
    mix(lake, MixtureSpec("tower", 10, (SourceSpec("tower"),), statistics=False), execution=Execution(workers=0))
    return lake


def posterior_velocity(mean: Any, covariance: Any, x: Any, tau: Any) -> Any:
    """E[e - a | x_tau, mean, covariance] for Gaussian a and e."""
    t = tau[:, None, None]
    eye = torch.eye(ACTIONS, dtype=torch.float64)
    total = (1 - t) ** 2 * covariance + t**2 * eye
    gain = torch.linalg.solve(total, (1 - t) * covariance).transpose(1, 2)
    action = mean + (gain @ (x - (1 - t[:, 0]) * mean)[..., None])[..., 0]
    return (x - (1 - t[:, 0]) * action) / t[:, 0] - action


def best_error(covariance: Any) -> float:
    """Mean squared error of the best velocity given that covariance, averaged over tau: a closed form and a quadrature."""
    eye, errors = torch.eye(ACTIONS, dtype=torch.float64), []
    for t in np.linspace(0.05, 0.95, 901):
        cross = t * eye - (1 - t) * covariance
        total = (1 - t) ** 2 * covariance + t**2 * eye
        errors.append(float(torch.trace(eye + covariance - cross @ torch.linalg.solve(total, cross.T))) / ACTIONS)
    return float(np.mean(errors))


def tower_teacher(name: str = "tower", *, underfit: bool = False) -> Teacher:
    """The best teacher; the student is the best, too, or ignores half of what it sees."""
    seen = W.clone()
    if underfit:
        seen[:, SEEN // 2 :] = 0

    def answer(ready: Mapping[str, Any], x: Any, tau: Any, privileged: bool) -> Any:
        o, f, point, t = (v.double() for v in (ready["context"], ready["future"], x[:, 0], tau))
        if privileged:
            return posterior_velocity(o @ W.T + f @ U.T, TOLD, point, t)[:, None].float()
        return posterior_velocity(o @ seen.T, ALONE, point, t)[:, None].float()

    def prepare(batch: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "context": batch["observation.state"],
            "future": batch["observation.future"],
            "action": batch["action"].float()[:, None],
        }

    spec = TeacherSpec(
        name, Convention(sampler=TAU), 1, ACTIONS, privileged=("future",), mask_id="tower", code_sha=f"tower/{underfit}"
    )
    needs = Needs(("observation.state", "observation.future", "action"), {})
    return from_callable(answer, spec, weights={"W": W, "U": U, "seen": seen}, prepare=prepare, needs=needs)
