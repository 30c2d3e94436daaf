"""What a simulator knows about a pair: which things moved between its two moments, and what kind of edit that is. Filters never ask."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annotators.base import Batch
from annotators.triplets.config import TripletsConfig
from annotators.triplets.filters import Judged, judge
from annotators.triplets.pair import Evidence, Pair
from annotators.triplets.rows import Row
from annotators.triplets.words import kind_promised, towards
from schemas.contract import Camera

if TYPE_CHECKING:
    from annotators.triplets.triplets import Scene, Triplets

LEAST_SEEN = 0.02  # of the picture: a thing must go this far before its direction counts


@dataclass(frozen=True, slots=True)
class Case:
    """One candidate, judged by pictures alone, and the truth.

    Attributes:
        episode: its place in the batch.
        pair: what the filters looked at; None where they were not asked.
        judged: their verdict; None where they were not asked.
        moved: how many things moved.
        kind: the true kind of edit; empty where not exactly one thing moved.
        direction: where the thing went in the picture; empty where nobody knows or it hardly went.
    """

    episode: int
    pair: Pair | None
    judged: Judged | None
    moved: int
    kind: str
    direction: str

    @property
    def single(self) -> bool:
        """Whether exactly one thing moved."""
        return self.moved == 1

    @property
    def accepted(self) -> bool:
        """Whether the filters took it for a minimal change."""
        return self.judged is not None and self.judged.reason is None


def cases_of(annotator: "Triplets", batch: Batch, camera: Camera) -> list[Case]:
    """Return every candidate of a batch that is no goal pair. Poses are the truth, so `annotator` must not use them."""
    found: list[Case] = []
    for at, (scene, candidates) in enumerate(annotator.scenes(batch, camera)):
        for candidate in candidates:
            if candidate.kind == "goal" or not len(scene.clip):
                continue
            said = annotator.pair(scene, candidate)
            row = said if isinstance(said, Row) else said[1]
            if row.filter == "candidate" and row.reason != "robot_unknown":
                continue
            pair = None if isinstance(said, Row) else said[0]
            judged = None if pair is None else judge(Evidence(pair, annotator.config))
            found.append(_case(at, scene, row, pair, judged, annotator.config))
    return found


def _case(at: int, scene: "Scene", row: Row, pair: Pair | None, judged: Judged | None, config: TripletsConfig) -> Case:
    groups = scene.poses.groups(row.first, row.stop, config.moved_m, config.turned_rad)
    kind, direction = "", ""
    if len(groups) == 1:
        name = max(groups[0], key=lambda n: scene.poses.gone(n, row.first, row.stop))
        hinged = any(kind_promised(n, "") == "articulation" for n in groups[0])
        went = scene.poses.gone(name, row.first, row.stop) >= config.moved_m
        kind = "articulation" if hinged else "location" if went else "rotation"
        direction = _direction(scene, name, row) if went else ""
    return Case(at, pair, judged, len(groups), kind, direction)


def _direction(scene: "Scene", name: str, row: Row) -> str:
    view = scene.robot.view
    if view is None:
        return ""
    path = scene.poses.place[name]
    ends = [view.track(path[:, s : s + 1], s) for s in (row.first, row.stop)]
    if not all(ahead[0] for _, ahead in ends):
        return ""
    dx, dy = (ends[1][0][:, 0] - ends[0][0][:, 0]) / [view.camera.width, view.camera.height]
    return towards(float(dx), float(dy), LEAST_SEEN)
