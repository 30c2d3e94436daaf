"""The score stage: every episode of a shard by itself, one unit per shard. Scores that need the whole dataset follow in `pooled`.

Scores are stored and nothing else: no episode is dropped for one unless a curation says so. An episode that a method cannot measure
has a row too, without a value and with the reason.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.curate.subject import ROW, read_subject
from pipelines.selection import choose
from pipelines.shards.reader import open_shard
from pipelines.unit import Output, Unit
from schemas.checks import suggestion
from schemas.errors import UnknownNameError
from schemas.ids import short_id, unit_id
from transforms.curation.metrics import CODE, METRICS
from transforms.curation.score import Score

PREFIX, SEGMENTS = "quality.", "segments"
VIDEO_HZ = 10.0
_NEEDS = {"blur": "sharpness"}


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """Score every episode of each shard that holds a chosen one.

    Attributes:
        lake: where the shards are.
        what: see `pipelines.selection.choose`.
        methods: names of `transforms.curation.metrics.METRICS`.
        video_hz: pictures per second and camera that the methods on pictures decode.
    """

    lake: Lake
    what: str = "all"
    methods: tuple[str, ...] = tuple(METRICS)
    video_hz: float = VIDEO_HZ
    name: str = "score"

    def plan(self) -> Sequence[Unit]:
        """One unit per shard, in catalog order."""
        rows, spans = held_episodes(self.lake, self.what), _segment_files(self.lake)
        local = tuple(m for m in self.methods if METRICS[m].compute is not None)
        units: list[Unit] = []
        for (dataset, shard), held in rows.group_by(["dataset", "shard"], maintain_order=True) if local else ():
            inputs = [shard, held.select("episode_id", "content_hash", "success").rows(), spans.get(str(shard))]
            name = unit_id(self.name, inputs, [fingerprint(m, self.video_hz) for m in local], CODE)
            payload = (str(shard), held.select(ROW).to_dicts(), local)
            units.append(Unit(name, self.name, str(dataset), f"score {dataset}/{shard}", payload, episodes=held.height))
        return units

    def work(self, unit: Unit) -> Output:
        """Score the episodes of one shard."""
        name, rows, methods = unit.payload
        shard = open_shard(self.lake, unit.dataset, name)
        hz = self.video_hz if any(METRICS[m].pictures for m in methods) else None
        cuts = _segments(self.lake, unit.dataset, name, [r["episode_id"] for r in rows])
        found: list[dict[str, Any]] = []
        for row in rows:
            subject = read_subject(shard, row, hz, cuts.get(row["episode_id"]))
            end = int(subject.evidence.t_ns[-1]) if subject.evidence.count else 0
            for method in methods:
                compute = METRICS[method].compute
                assert compute is not None
                found.append(score_row(method, row["episode_id"], compute(subject), end, self.video_hz))
        return Output((), {"scores": pa.Table.from_pylist(found)}, (), len(found), sum(r["steps"] for r in rows))


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return the methods called `names` (all of them, if none is named) and what they rest on.

    Raises:
        UnknownNameError: there is no such method.
    """
    for name in names:
        if name not in METRICS:
            raise UnknownNameError(f"there is no quality score called {name!r}; {suggestion(name, METRICS)}")
    wanted = set(names or METRICS) | {_NEEDS[n] for n in names if n in _NEEDS}
    return tuple(m for m in METRICS if m in wanted)


def fingerprint(method: str, video_hz: float = VIDEO_HZ) -> str:
    """Identify how a quality score was made."""
    settings = {"video_hz": video_hz} if METRICS[method].group == "video" or METRICS[method].pictures else {}
    return short_id("fp", [PREFIX + method, CODE, settings])


def held_episodes(lake: Lake, what: str) -> pl.DataFrame:
    """Return the rows of every episode with steps in the shards that hold a chosen one, by dataset, shard and place."""
    chosen = choose(lake, what).episodes.select("dataset", "shard").unique()
    held = Catalog(lake).latest("episodes").collect().join(chosen, on=["dataset", "shard"], how="semi")
    return held.filter(pl.col("steps") > 0).sort("dataset", "shard", "first_row")


def score_row(method: str, episode: str, score: Score, end_ns: int, video_hz: float = VIDEO_HZ) -> dict[str, Any]:
    """Return a row of `scores`."""
    detail = json.dumps(dict(score.detail), default=float) if score.detail else None
    return {
        "method": PREFIX + method, "fingerprint": fingerprint(method, video_hz), "episode_id": episode, "start_ns": 0,
        "end_ns": end_ns, "value": score.value, "detail": detail,
    }  # fmt: skip


def _segment_files(lake: Lake) -> dict[str, str]:
    """Return the newest side table of the segments annotator per shard."""
    listed = Catalog(lake).latest("annotations").filter(pl.col("annotator") == SEGMENTS).sort("committed_ns").collect()
    return dict(listed.select("shard", "uri").iter_rows())


def _segments(lake: Lake, dataset: str, shard: str, episodes: list[str]) -> dict[str, list[tuple[int, int]]]:
    """Return the spans that the segments annotator found in each episode; empty where it has not been run."""
    asked = pl.DataFrame({"episode_id": episodes, "dataset": dataset, "shard": shard})
    rows = read_annotations(Catalog(lake), SEGMENTS, asked)
    found: dict[str, list[tuple[int, int]]] = {}
    if "start_ns" in rows.columns:
        for episode, start, end in rows.filter("valid").select("episode_id", "start_ns", "end_ns").iter_rows():
            found.setdefault(episode, []).append((start, end))
    return found
