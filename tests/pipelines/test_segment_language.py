"""Segments reach exporters as LeRobot subtasks, beside language motions."""

from pathlib import Path

import pytest

from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotate.prepare import prepared
from pipelines.annotations import language_rows, read_annotations
from pipelines.exporters.lerobot.plan import language_style_column
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.motion import ArmSource


@pytest.fixture
def annotated(tmp_path: Path) -> Lake:
    lake = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(lake, ArmSource()))
    for name in ("language_motion", "segments"):
        run_stage(AnnotateStage(lake, open_annotator(name)))
    return lake


def test_subtasks_and_motions_are_language_rows(annotated: Lake) -> None:
    catalog = Catalog(annotated)
    episodes = catalog.latest("episodes").collect()
    table = read_annotations(catalog, "segments", episodes).filter("valid")
    for episode, rows in language_rows(catalog, episodes).items():
        subtasks = [(r.text, r.start_ns) for r in rows if r.style == "subtask"]
        mine = table.filter(table["episode_id"] == episode)
        assert subtasks == list(zip(mine["text"], mine["start_ns"], strict=True))
        assert subtasks
        assert {r.style for r in rows} == {"motion", "subtask"}
        assert [r.start_ns for r in rows] == sorted(r.start_ns for r in rows)
    assert language_style_column("subtask") == "language_persistent"
    assert language_style_column("interjection") == "language_events"


def test_calibration_is_kept_in_the_settings_and_repeats(annotated: Lake) -> None:
    first, again = (prepared(annotated, "segments", "arm", {"calibrate": "true", "penalty": "0.8"}) for _ in range(2))
    assert first == again
    one = open_annotator("segments", first)
    assert one.settings()["penalty"] == 0.8
    assert one.settings()["scale"] != open_annotator("segments").settings()["scale"]
    assert prepared(annotated, "segments", "arm", {"calibrate": "false"}) == {}
    run_stage(IngestStage(annotated, ArmSource(seeds=(7,), options=SourceOptions("other"))))
    with pytest.raises(UsageError, match=r"one dataset at a time.*arm, other"):
        prepared(annotated, "segments", "all", {"calibrate": "true"})
    with pytest.raises(UsageError, match="true or false"):
        prepared(annotated, "segments", "arm", {"calibrate": "yes"})
