"""Corrections spoken to a robot, through a real LeRobot set: written by the exporter, read by the source, found as attempts."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.lake import Lake
from pipelines.attempts.spoken import HORIZON_S
from pipelines.attempts.stage import AttemptsStage, read_attempts
from pipelines.executors import Execution
from pipelines.exporters.base import ExportOptions
from pipelines.exporters.lerobot import LeRobotExporter
from pipelines.ingest import IngestStage
from pipelines.memory.corrections import correction_events
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import SourceOptions
from pipelines.sources.lerobot import LeRobotSource
from pipelines.unit import run_stage
from schemas.annotation import LanguageRow
from schemas.attempts import ROOT
from tests.support.lerobot import job_of
from tests.support.toys import FPS, SECOND, ToySource
from transforms.attempts.errors import first_error
from transforms.attempts.tree import open_tree

HERE = Execution(workers=0)
SAID, CHANGED, LATE = 15, 18, 40  # steps


@dataclass(frozen=True)
class Turning(ToySource):
    """Two episodes of 40 steps; the first changes its action three steps after it was told to, the second never."""

    lengths: tuple[int, ...] = (LATE, LATE)
    options: SourceOptions = field(default_factory=lambda: SourceOptions("turning"))

    def episode(self, index: int) -> EpisodeDraft:
        plain = super().episode(index)
        t_ns = plain.steps.column("t_ns").to_numpy()
        action = np.zeros((LATE, 4))
        action[:, 0] = np.where((np.arange(LATE) >= CHANGED) & (index == 0), -1.0, 1.0)
        state = np.stack(plain.steps.column("observation.state").to_pylist())
        frames = {c: np.arange(LATE, dtype=np.int32) for c in ("front", "wrist")}
        steps = build_steps(self.contract(), t_ns, {"observation.state": state, "action": action}, language="go", frames=frames)
        return replace(plain, steps=steps)


@pytest.fixture
def told(lake: Lake, tmp_path: Path) -> Lake:
    """A lake that read a LeRobot set in which somebody interjected."""
    first = Lake.at(tmp_path / "first")
    run_stage(IngestStage(first, Turning()), execution=HERE)
    names = [e.episode_id for e in job_of(first, tmp_path / "x", name="turning").episodes]
    rows = {n: (LanguageRow("interjection", "no, to the left", SAID * SECOND // FPS),) for n in names}
    LeRobotExporter().export(job_of(first, tmp_path / "set", ExportOptions(image_frames=0), rows, name="turning"))
    (event,) = {json.dumps(e) for cell in pq.read_table(tmp_path / "set/data")["language_events"].to_pylist() for e in cell}
    assert json.loads(event)["role"] == "user", "as LeRobot's own pipeline writes them"
    run_stage(IngestStage(lake, LeRobotSource(str(tmp_path / "set"), SourceOptions("told"))), execution=HERE)
    return lake


def test_a_word_between_two_spans_is_a_correction_with_its_effect(told: Lake) -> None:
    assert run_stage(AttemptsStage(told, "spoken", "corrections", "all"), execution=HERE).worked == 1
    tree = open_tree(read_attempts(told, "spoken"))
    assert len(tree.leaves) == 2
    effects = []
    for leaf in tree.leaves:
        before, word, after = tree.path(leaf)
        kinds = [(tree.rows[n]["kind"], tree.rows[n]["author"]) for n in (before, word, after)]
        assert kinds == [("robot", "policy"), ("correction", "human"), ("robot", "policy")]
        assert tree.rows[before]["parent"] == ROOT
        assert first_error(tree, leaf) == before
        assert tree.rows[before]["end_ns"] == tree.rows[word]["start_ns"] == tree.rows[after]["start_ns"] == SAID * SECOND // FPS
        effects.append(json.loads(tree.rows[word]["detail"])["effect_s"])
    assert sorted(effects, key=str) == [pytest.approx((CHANGED - SAID) / FPS), None]
    assert all(e is None or 0 <= e <= HORIZON_S for e in effects), "between the word and the horizon"
    events = correction_events(tree)
    assert [(e.correction, e.level, e.context) for e in events] == [("no, to the left", "skill", "go")] * 2


def test_an_episode_nobody_spoke_in_is_rejected(lake: Lake) -> None:
    run_stage(IngestStage(lake, Turning()), execution=HERE)
    report = run_stage(AttemptsStage(lake, "none", "corrections", "all"), execution=HERE)
    assert "interjection" in report.rejects[0].message
