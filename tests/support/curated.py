"""A source of demonstrations with known faults, tasks, scenes and copies; without cameras, so that it is quick."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import run_stage
from schemas.contract import Contract
from tests.support.demos import CONTRACT, SECOND, demo

HERE = Execution(workers=0)


@dataclass(frozen=True)
class Take:
    """One recorded demonstration. `motion` seeds it: two takes of one motion are copies of each other."""

    motion: int
    task: str = "stack"
    scene: str = ""
    shake: float = 0.0
    noise: float = 0.0005
    trim: float = 0.0
    hz: float = 50.0
    split: str = ""
    colour: str = ""
    size: float = 0.0
    success: bool | None = None

    def values(self) -> np.ndarray:
        values = demo(self.motion, 5, shake=self.shake, noise=self.noise)
        return values[int(self.trim * len(values)) :: round(50 / self.hz)]


@dataclass(frozen=True)
class Takes:
    """A source of takes, `per_group` to a shard."""

    takes: tuple[Take, ...] = ()
    uri: str = "takes://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("takes"))
    per_group: int = 8
    name: ClassVar[str] = "takes"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("takes://")

    def contract(self) -> Contract:
        return replace(CONTRACT, dataset=self.options.dataset, licence="Apache-2.0")

    def groups(self) -> list[Group]:
        batches = [tuple(range(i, min(i + self.per_group, len(self.takes)))) for i in range(0, len(self.takes), self.per_group)]
        return [Group(f"takes {b[0]}", len(b), 1000, [repr(self.takes[i]) for i in b], b) for b in batches]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for index in group.payload:
            take = self.takes[index]
            values = take.values()
            times = (np.arange(len(values)) * SECOND / take.hz).astype(np.int64)
            columns = {"observation.state": values, "action": np.concatenate([values[1:], values[-1:]])}
            steps = build_steps(self.contract(), times, columns, language=take.task)
            facts = {"factors": {"colour": {"category": take.colour}, "size": {"amount": take.size}}} if take.colour else {}
            attributes = facts | ({"split": take.split} if take.split else {})
            yield EpisodeDraft(
                f"{index:04d}", steps, success=take.success, split_group=take.scene or None, uri="takes://", attributes=attributes
            )


def ingest_takes(lake: Lake, takes: list[Take], dataset: str = "takes") -> Lake:
    """Ingest takes in this process."""
    run_stage(IngestStage(lake, Takes(tuple(takes), options=SourceOptions(dataset))), execution=HERE)
    return lake
