"""Scripted manipulation with a camera, an object whose pose is known, and a task in words: what texts are written about."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.shards.encode import encode_h264
from pipelines.sources.base import Group, SourceOptions
from schemas.contract import Camera, Contract, Feature
from tests.support.scripts import CUP, sample_scripts
from tests.support.video import barcode

TASK = "put the red cup on the plate"


@dataclass(frozen=True)
class CupSource:
    """One episode per seed at `hz`, `per_group` to a shard; frame n of an episode carries barcode n."""

    seeds: tuple[int, ...] = (0, 1, 2, 4)
    hz: float = 5.0
    uri: str = "cups://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("cups"))
    per_group: int = 2
    name: ClassVar[str] = "cups"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("cups://")

    def contract(self) -> Contract:
        plain = sample_scripts([self.seeds[0]], self.hz, truth=False).contract
        camera = Camera("front", width=64, height=64, fps=self.hz)
        action = Feature("action", "float32", (3,), ("dx", "dy", "dz"), role="action", representation="delta", unit="m")
        features = (*plain.features, action)
        return replace(plain, dataset=self.options.dataset, features=features, cameras=(camera,), licence="Apache-2.0")

    def groups(self) -> list[Group]:
        batches = [self.seeds[i : i + self.per_group] for i in range(0, len(self.seeds), self.per_group)]
        return [Group(f"seeds {b}", len(b), 1000, [b, self.hz], b) for b in batches]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for seed in group.payload:
            steps = sample_scripts([seed], self.hz, truth=False).steps
            t_ns = steps.column("t_ns").to_numpy()
            pictures = np.stack([barcode(n) for n in range(len(t_ns))])
            columns = {n: np.stack(steps.column(n).to_pylist()) for n in ("observation.state", CUP)}
            place = columns["observation.state"][:, :3]
            columns["action"] = np.diff(place, axis=0, append=place[-1:])
            frames = {"front": np.arange(len(t_ns), dtype=np.int32)}
            table = build_steps(self.contract(), t_ns, columns, language=TASK, frames=frames)
            about = {"scene": f"scene {seed % 3}", "object": ("red cup", "blue cup")[seed // 3 % 2]}
            track = encode_h264("front", pictures, t_ns, round(self.hz), gop=4)
            yield EpisodeDraft(str(seed), table, (track,), success=seed % 2 == 0, uri=self.uri, attributes=about)
