"""A source of plain numbers: episodes of states and actions without pictures, for what only looks at those."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import StageReport, run_stage
from schemas.contract import Contract, Feature, Part


@dataclass(frozen=True)
class Numbers:
    """One episode: float [T, S] and [T, A], and what is known of it."""

    state: Any
    action: Any
    task: str = "do it"
    scene: str = ""
    success: bool = True
    reward: Any = None
    extra: Any = None  # further step columns, float [T, D] by name


@dataclass(frozen=True)
class ArraySource:
    """Episodes at `hz`; the last column of an action is its gripper where `gripper` is true."""

    episodes: tuple[Numbers, ...]
    options: SourceOptions = field(default_factory=lambda: SourceOptions("numbers"))
    hz: float = 10.0
    gripper: bool = False
    uri: str = "numbers://"
    name: ClassVar[str] = "numbers"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("numbers://")

    def contract(self) -> Contract:
        wide, deep = self.episodes[0].state.shape[1], self.episodes[0].action.shape[1]
        parts = (Part("gripper", deep - 1, deep),) if self.gripper else ()
        return Contract(
            self.options.dataset, "robot", "numbers_arm", self.hz,
            features=(
                Feature("observation.state", "float32", (wide,), role="state"),
                Feature("action", "float32", (deep,), role="action", representation="delta", parts=parts),
                *(Feature(n, "float64", (v.shape[1],)) for n, v in (self.episodes[0].extra or {}).items()),
            ),
            licence=self.options.licence or "Apache-2.0",
        )  # fmt: skip

    def groups(self) -> list[Group]:
        content = [[float(np.nansum(e.state)), float(np.nansum(e.action)), e.task, e.scene] for e in self.episodes]
        return [Group("all", len(self.episodes), 1000, content, None)]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for index, e in enumerate(self.episodes):
            t_ns = (np.arange(len(e.state)) * (1e9 / self.hz)).astype(np.int64)
            columns = {"observation.state": e.state, "action": e.action} | (e.extra or {})
            steps = build_steps(self.contract(), t_ns, columns, language=e.task, reward=e.reward)
            yield EpisodeDraft(str(index), steps, success=e.success, split_group=e.scene or None, uri=self.uri)


def ingest_numbers(lake: Lake, episodes: list[Numbers], dataset: str = "numbers", **changes: Any) -> StageReport:
    """Ingest plain numbers in this process."""
    source = ArraySource(tuple(episodes), SourceOptions(dataset), **changes)
    return run_stage(IngestStage(lake, source), execution=Execution(workers=0))
