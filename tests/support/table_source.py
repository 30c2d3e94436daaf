"""A source of episodes on the drawn table: plays, re-rendered counterfactuals, and a second play that starts elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.shards.encode import encode_h264
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import Reject, StageReport, run_stage
from schemas.contract import Contract
from tests.support.table_film import METRE, SECOND, SECONDS, contract, path, state_at
from tests.support.tabletop import Table, draw

HZ = 10
SEEDS = (1, 2)
CHANGES = ("colour", "camera", "distractors")  # re-rendered, of the first play only


@dataclass(frozen=True)
class TableSource:
    """`len(SEEDS)` plays; the first is shown again with another colour, from elsewhere, and with two things more."""

    uri: str = "table://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("table"))

    name: ClassVar[str] = "table"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("table://")

    def contract(self) -> Contract:
        found = contract(HZ, masks=False)
        return replace(found, dataset=self.options.dataset, licence="Apache-2.0", streams=())

    def groups(self) -> list[Group]:
        names = [(seed, "") for seed in SEEDS] + [(SEEDS[0], change) for change in CHANGES]
        return [Group("all", len(names), 1000, [names], tuple(names))]

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        for seed, change in group.payload:
            yield self.episode(seed, change)

    def episode(self, seed: int, change: str) -> EpisodeDraft:
        t = np.arange(round(SECONDS * HZ) + 1) / HZ
        times, number = np.rint(t * SECOND).astype(np.int64), np.arange(len(t), dtype=np.int32)
        hand, thing = path(seed, t)
        shift = (3.0, -2.0) if change == "camera" else (0.0, 0.0)
        states = [changed(state_at(seed, h, p), change) for h, p in zip(hand.T, thing.T, strict=True)]
        pictures = np.stack([draw(s, shift, n) for n, s in enumerate(states)])
        columns: dict[str, Any] = {"observation.state": np.stack([hand[0] / METRE, -hand[1] / METRE, np.zeros(len(t))], 1)}
        steps = build_steps(self.contract(), times, columns, language="push the thing aside", frames={"front": number})
        said: dict[str, Any] = {"simulator": "table", "task": "push", "scene": seed}
        if change:
            label = {
                "colour": {"category": "white"},
                "camera": {"category": "far"},
                "distractors": {"category": "2", "count": 2},
            }[change]
            said |= {"counterfactual_of": str(seed), "counterfactual_factor": change, "factors": {change: label}}
        key = f"{seed}~{change}" if change else str(seed)
        track = encode_h264("front", pictures, times, HZ, gop=4)
        return EpisodeDraft(key, steps, (track,), success=True, uri=self.uri, split_group=f"table/{seed}", attributes=said)


def changed(table: Table, change: str) -> Table:
    """The same state with one factor changed."""
    first, *rest = table.things
    if change == "colour":
        used = {t.colour for t in table.things}
        return replace(table, things=(replace(first, colour="white" if "white" not in used else "black"), *rest))
    if change == "distractors":
        far = replace(first, shape="box", a=9.0, b=7.0)
        more = (replace(far, x=20.0, y=180.0, colour="orange"), replace(far, x=230.0, y=120.0, colour="yellow"))
        return replace(table, things=(*table.things, *more))
    return table


def ingest_table(lake: Lake) -> StageReport:
    """Ingest the drawn table in this process."""
    return run_stage(IngestStage(lake, TableSource()), execution=Execution(workers=0))
