"""Texts through the whole stage: runs that add up, and a model's server that dies in the middle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from catalog.lake import Lake
from catalog.query import Query
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotations import language_rows, read_annotations
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.unit import run_stage
from schemas.errors import TransportError
from tests.support.chat_server import chat_server
from tests.support.cups import CupSource
from tests.support.motion import ArmSource

HERE = Execution(workers=0)


@pytest.fixture
def cups(tmp_path: Path) -> Lake:
    lake = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(lake, CupSource()), execution=HERE)
    return lake


def write(lake: Lake, **settings: Any) -> Any:
    return run_stage(AnnotateStage.named(lake, "text", "all", settings), execution=HERE)


def table_of(lake: Lake) -> pl.DataFrame:
    catalog = Catalog(lake)
    return read_annotations(catalog, "text", catalog.latest("episodes").collect())


def counted(rows: pl.DataFrame) -> dict[tuple[str, str], int]:
    return {(k, t): n for k, t, n in rows.group_by("kind", "template").len().iter_rows()}


def test_a_run_with_fewer_kinds_hides_nothing_of_the_others(cups: Lake) -> None:
    write(cups, kinds=["qa", "paraphrase", "plan", "goal"])
    before = table_of(cups)
    write(cups, kinds=["qa"], choices=2)
    after = table_of(cups)
    assert set(after["kind"]) == set(before["kind"]) == {"qa", "paraphrase", "plan", "plan_step", "goal"}
    others = pl.col("kind") != "qa"
    assert after.filter(others).drop("annotator_fp").equals(before.filter(others).drop("annotator_fp"))
    questions = after.filter(pl.col("kind") == "qa", "valid")
    assert set(questions["choices"].list.len()) == {2}, "of questions, the newest run counts"
    assert before.filter(pl.col("kind") == "qa", "valid")["choices"].list.len().max() > 2
    asked = Query(Catalog(cups)).sql("SELECT kind, template, count(*) AS n FROM text GROUP BY kind, template")
    assert {(k, t): n for k, t, n in asked.iter_rows()} == counted(after)
    told = language_rows(Catalog(cups), Catalog(cups).latest("episodes").collect())
    assert {r.style for rows in told.values() for r in rows} == {"vqa", "task_aug", "plan"}


def test_a_kind_with_nothing_to_say_hides_what_was_said_of_it(cups: Lake) -> None:
    write(cups, kinds=["goal"])
    assert table_of(cups).filter("valid").height
    write(cups, kinds=["goal"], moved_m=100.0)
    assert set(table_of(cups)["reason"]) == {"nothing_moved"}


def test_other_annotators_show_their_newest_run_alone(tmp_path: Path) -> None:
    lake = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(lake, ArmSource()), execution=HERE)
    catalog = Catalog(lake)
    for penalty in (2.0, 0.8):
        run_stage(AnnotateStage.named(lake, "segments", "all", {"penalty": penalty}), execution=HERE)
    rows = read_annotations(catalog, "segments", catalog.latest("episodes").collect())
    assert rows["annotator_fp"].n_unique() == 1
    assert Query(catalog).sql("SELECT DISTINCT annotator_fp FROM segments").height == 1


def test_rationales_of_successes_and_failures_are_contrasted_by_sql(cups: Lake) -> None:
    """ReAct meets ActRe: a binarised reward per rationale, from how its episode ended."""
    write(cups, kinds=["rationale"])
    rows = Query(Catalog(cups)).sql(
        "SELECT t.episode_id, t.text, CASE WHEN e.success THEN 1 ELSE -1 END AS reward FROM text t "
        "JOIN episodes e ON t.episode_id = e.episode_id WHERE t.kind = 'rationale' AND t.valid"
    )
    assert set(rows["reward"]) == {1, -1}
    won = dict(Catalog(cups).latest("episodes").select("episode_id", "success").collect().iter_rows())
    assert all((reward == 1) == won[episode] for episode, _, reward in rows.iter_rows())


def worded(_system: str, facts: dict[str, Any]) -> str:
    if "question" in facts:
        return json.dumps({"question": f"Please tell: {facts['question'].lower()}"})
    if "task" in facts:
        return json.dumps(
            {"paraphrases": [{"text": "could you put the red cup on the plate", "object": "none", "act": "embedded_imperative"}]}
        )
    return json.dumps({"rationale": f"The {facts['thing']} is {facts['side']} the hand, so it has to move {facts['move']}."})


def dying(after: int, finished: list[str]) -> Callable[[str, dict[str, Any]], str | int]:
    """A server that answers `after` calls and then none."""

    def reply(system: str, facts: dict[str, Any]) -> str | int:
        if len(finished) >= after:
            return 503
        finished.append(json.dumps(facts, sort_keys=True))
        return worded(system, facts)

    return reply


def test_a_server_that_dies_in_the_middle_of_a_stage_loses_nothing(cups: Lake, tmp_path: Path) -> None:
    """The first shard is committed, the second is not; the next run makes the missing calls and no other."""
    settings = {"kinds": ["qa", "rationale", "paraphrase"], "replies": str(tmp_path / "replies"), "wait_s": 0.0, "retries": 1}
    with chat_server(worded) as server:  # how many calls each shard needs
        write(cups, **settings | {"model": server.url, "replies": str(tmp_path / "whole")})
        needed = [json.dumps(a, sort_keys=True) for a in server.asked]
    whole = table_of(cups).drop("annotator_fp")
    lake = Lake.at(tmp_path / "again")
    run_stage(IngestStage(lake, CupSource()), execution=HERE)
    finished = list[str]()
    with chat_server(dying(len(needed) - 3, finished)) as server, pytest.raises(TransportError, match="cannot be reached"):
        write(lake, **settings | {"model": server.url})
    listed = Catalog(lake).latest("annotations").collect()
    assert listed.height == 1, "one of two shards"
    assert not list((tmp_path / "replies").rglob("*.part"))
    with chat_server(worded) as server:
        report = write(lake, **settings | {"model": server.url})
        later = [json.dumps(a, sort_keys=True) for a in server.asked]
    assert report.worked == 1
    assert sorted(finished + later) == sorted(needed), "every call once, whoever answered it"
    assert table_of(lake).drop("annotator_fp").equals(whole)
    assert table_of(lake).filter(pl.col("tier") == "model", "valid").height > 0
    assert write(lake, **settings | {"model": server.url}).worked == 0, "nobody listens, and nobody is asked"
