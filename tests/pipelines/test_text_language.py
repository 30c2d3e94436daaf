"""Texts reach exporters in the styles LeRobot has; what has none stays in the side table."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotate.prepare import prepared
from pipelines.annotations import language_rows, read_annotations
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft
from pipelines.sources.base import Group
from pipelines.unit import run_stage
from tests.support.motion import ArmSource
from transforms.language.paraphrases import GRID

TASK = "pick up the cup"


@dataclass(frozen=True)
class ToldSource(ArmSource):
    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for draft in super().read(group):
            at = draft.steps.column_names.index("language")
            kind = draft.steps.field(at)
            words = pa.array([TASK] * draft.steps.num_rows).cast(kind.type)
            yield replace(draft, steps=draft.steps.set_column(at, kind, words))


def test_paraphrases_and_plans_are_language_rows(tmp_path: Path) -> None:
    lake = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(lake, ToldSource(seeds=(0, 1))))
    settings = prepared(lake, "text", "arm", {"calibrate": "true", "support": "1", "least_aligned": "0.0"})
    assert settings["before"]
    assert settings == prepared(lake, "text", "arm", {"calibrate": "true", "support": "1", "least_aligned": "0.0"})
    run_stage(AnnotateStage(lake, open_annotator("text", settings)))
    catalog = Catalog(lake)
    episodes = catalog.latest("episodes").collect()
    table = read_annotations(catalog, "text", episodes)
    assert {"rationale", "implausible", "anticipation"} <= set(table["kind"])
    told = language_rows(catalog, episodes)
    assert set(told) == set(episodes["episode_id"])
    for rows in told.values():
        assert {r.style for r in rows} == {"task_aug", "plan"}
        assert len({r.text for r in rows if r.style == "task_aug"}) > 0.8 * len(GRID)
        assert {r.start_ns for r in rows} == {0}
