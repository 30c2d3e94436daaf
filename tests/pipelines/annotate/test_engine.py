"""The engine: the right picture for every step, shared passes, parts, memory that runs out, broken pictures and broken annotators."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import pipelines.annotate.engine as engine
import pipelines.annotate.memory as memory
import pipelines.annotate.parts as parts
from annotators.clips import Look
from annotators.pictures.picture_quality import PictureQuality, PictureQualityConfig
from catalog.lake import Lake
from catalog.query import Query, select_episodes
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotate.effort import Effort, in_words, total
from pipelines.annotate.engine import annotate_shard
from pipelines.annotate.parts import plan_parts
from pipelines.annotate.pictures import read_clip, shown
from pipelines.annotations import read_annotations
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.reader import Shard, open_shard
from pipelines.unit import run_stage
from schemas.errors import CorruptMediaError
from tests.support.toys import FPS, LENGTHS, ToySource, ingest_toy
from tests.support.watchers import BREACHES, Numbers

HERE = Execution(workers=0)
SECOND = 1_000_000_000


@pytest.fixture
def toys(lake: Lake) -> Lake:
    ingest_toy(lake)
    return lake


@pytest.fixture
def shard(toys: Lake) -> Shard:
    first = select_episodes(Catalog(toys)).row(0, named=True)
    return open_shard(toys, "toy", first["shard"])


def numbers(rows: pa.Table | None) -> list[float]:
    assert rows is not None
    return rows["number"].to_pylist()


def test_every_step_is_told_by_the_picture_it_sees(toys: Lake) -> None:
    for camera, shift in (("front", 0), ("wrist", 1000)):
        run_stage(AnnotateStage(toys, Numbers(camera)), execution=HERE)  # type: ignore[arg-type]
        rows = read_annotations(Catalog(toys), "numbers", select_episodes(Catalog(toys)))
        assert rows["number"].to_list() == [n + shift for n in range(sum(LENGTHS))]
        assert rows["valid"].all()
    assert (rows["end_ns"] - rows["start_ns"]).unique().to_list() == [SECOND // FPS]


def test_groups_and_threads_change_nothing(shard: Shard) -> None:
    whole = annotate_shard([Numbers()], shard)[0]  # type: ignore[list-item]
    assert numbers(whole.rows) == list(range(21))
    assert whole.pictures == 21
    for hold, threads in ((1, 0), (1, 3), (20_000, 1)):
        found = annotate_shard([Numbers()], shard, threads=threads, hold_bytes=hold)[0]  # type: ignore[list-item]
        assert found.rows is not None
        assert found.rows.equals(whole.rows)


def test_long_episodes_come_in_parts_with_the_context_they_need(shard: Shard) -> None:
    annotator = PictureQuality(PictureQualityConfig(side=32, longest_s=0.2))
    plan = plan_parts(shard, [annotator.needs(shard.contract)], 20_000)
    cut = [p for g in plan.groups for p in g]
    assert len(cut) > 4
    assert all(len({p.episode for p in g}) == len(g) for g in plan.groups)
    for episode in shard.episode_ids:
        own = sorted((p.keep, p.keep_stop) for p in cut if p.episode == episode)
        assert [b for _, b in own[:-1]] == [a for a, _ in own[1:]]
        assert (own[0][0], own[-1][1]) == (0, shard.episode_steps(episode).num_rows)
    whole, pieces = (annotate_shard([annotator], shard, hold_bytes=b)[0].rows for b in (1 << 30, 20_000))
    assert whole is not None
    assert whole.equals(pieces)
    assert len([r for r in whole["frozen_s"].to_pylist() if r == 0]) > 10  # every toy picture is another one


def test_an_annotator_that_needs_whole_episodes_gets_them(shard: Shard) -> None:
    needs = replace(PictureQuality().needs(shard.contract), context_s=None)
    assert [len(g) for g in plan_parts(shard, [needs], 1).groups] == [1, 1]
    assert len(plan_parts(shard, [needs], 1 << 30).groups) == 1  # 12 and 9 pictures of two cameras: one bucket
    both = plan_parts(shard, [needs, PictureQuality().needs(shard.contract)], 1)
    assert [len(g) for g in both.groups] == [1, 1]


def test_pictures_are_picked_by_time(shard: Shard) -> None:
    episode = shard.episode_ids[0]
    every = shown(shard, episode, Look("front"))
    assert every.frames.tolist() == list(range(12))
    slow = shown(shard, episode, Look("front", hz=5.0))
    assert slow.frames.tolist() == [0, 4, 8]
    assert slow.seen.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert slow.step.tolist() == [0, 4, 8]
    assert len(shown(shard, episode, Look("nobody")).frames) == 0
    small = read_clip(shard, episode, Look("front", (16, 40)), every)
    assert small.pictures.shape == (12, 16, 16, 3)
    assert read_clip(shard, episode, Look("front", (640, 640)), every).pictures.shape == (12, 64, 64, 3)  # never enlarged


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    calls = list[tuple[str, str]]()

    def counted(shard: Shard, episode: str, look: Look, what: Any) -> Any:
        calls.append((episode, look.camera))
        return read_clip(shard, episode, look, what)

    monkeypatch.setattr(engine, "read_clip", counted)
    return calls


def test_annotators_that_look_alike_share_one_decoding(toys: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = decoded(monkeypatch)
    team = [Numbers(label="one"), Numbers(label="two"), Numbers("wrist", label="three"), Numbers(label="four", breaks="nan")]
    stages = [AnnotateStage(toys, a, beside=tuple(team[n + 1 :])) for n, a in enumerate(team)]  # type: ignore[arg-type]
    first = run_stage(stages[0], execution=HERE)
    assert first.count("done") == 2
    assert len(calls) == 4  # the four episodes, once
    assert Catalog(toys).latest("annotations").collect()["annotator"].to_list() == ["one", "one"]
    second = run_stage(stages[1], execution=HERE)
    assert (second.count("recovered"), len(calls)) == (2, 4)
    assert run_stage(stages[2], execution=HERE).count("done") == 2
    assert {c for _, c in calls[4:]} == {"wrist"}
    broken = run_stage(stages[3], execution=HERE, stop_rejects=1.0)
    assert {r.error for r in broken.rejects} == {"AnnotatorError"}
    assert "four" not in Catalog(toys).latest("annotations").collect()["annotator"].to_list()
    assert [run_stage(s, execution=HERE).worked for s in stages[:3]] == [0, 0, 0]
    one, two = (read_annotations(Catalog(toys), n, select_episodes(Catalog(toys))) for n in ("one", "two"))
    assert one["number"].equals(two["number"])


def test_running_out_of_memory_halves_the_batch_and_is_remembered(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_rooms", {})
    whole = annotate_shard([Numbers()], shard)[0]  # type: ignore[list-item]
    assert whole.effort is not None
    assert whole.effort.halvings == 0
    tight = Numbers(room=12)
    monkeypatch.setattr(memory, "_rooms", {})
    found = annotate_shard([tight], shard)[0]  # type: ignore[list-item]
    assert numbers(found.rows) == numbers(whole.rows)
    assert found.effort is not None
    assert found.effort.halvings >= 1
    again = annotate_shard([tight], shard)[0]  # type: ignore[list-item]
    assert again.effort is not None
    assert again.effort.halvings == 0
    monkeypatch.setattr(memory, "_rooms", {})
    hopeless = annotate_shard([Numbers(room=0)], shard)[0]  # type: ignore[list-item]
    assert isinstance(hopeless.error, MemoryError)
    assert "one picture at once" in hopeless.error.__notes__[0]


def test_what_running_a_model_cost_is_in_the_catalog(toys: Lake) -> None:
    run_stage(AnnotateStage(toys, Numbers()), execution=HERE)  # type: ignore[arg-type]
    rows = Query(Catalog(toys)).sql("SELECT * FROM runs WHERE stage = 'annotate'")
    assert rows["device"].to_list() == ["cpu", "cpu"]
    assert rows["frames"].sum() == sum(LENGTHS)
    assert ((rows["wait_share"] > 0) & (rows["wait_share"] < 1)).all()
    assert ((rows["device_busy"] > 0) & (rows["device_busy"] < 1)).all()
    assert (rows["model_seconds"] < rows["seconds"]).all()
    assert rows["halvings"].to_list() == [0, 0]


def test_shares_of_several_units_are_weighed_by_time() -> None:
    long = Effort("cpu", 30.0, 6.0, 24.0, 0.8, 0, 64).columns()
    short = Effort("cuda", 10.0, 6.0, 1.0, 0.4, 2, 16).columns()
    found = total([(30.0, long), (10.0, short), (5.0, {})])
    assert found is not None
    assert (found["device"], found["halvings"], found["at_once"]) == ("cpu, cuda", 2, 16)
    assert found["wait_share"] == pytest.approx((6 + 6) / 40)
    assert found["device_busy"] == pytest.approx(0.7)
    assert "70% busy, 30% of the time waiting for pictures, memory ran out 2 times: 16 pictures at once" in in_words(found)
    assert total([(1.0, {})]) is None


def test_an_episode_with_broken_pictures_is_invalid_and_told(toys: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = select_episodes(Catalog(toys))["episode_id"][1]

    def spoilt(shard: Shard, episode: str, look: Look, what: Any) -> Any:
        if episode == bad:
            raise CorruptMediaError("frame 3 does not decode", uri="packets", episode=episode)
        return read_clip(shard, episode, look, what)

    monkeypatch.setattr(engine, "read_clip", spoilt)
    report = run_stage(AnnotateStage(toys, Numbers()), execution=HERE, stop_rejects=1.0)  # type: ignore[arg-type]
    assert [(r.key, r.error) for r in report.rejects] == [(f"{bad}/front", "CorruptMediaError")]
    rows = read_annotations(Catalog(toys), "numbers", select_episodes(Catalog(toys)))
    assert set(rows.filter(~pl.col("valid"))["episode_id"]) == {bad}
    assert set(rows.filter(~pl.col("valid"))["reason"]) == {"no_picture"}
    assert rows.height == sum(LENGTHS)


@pytest.mark.parametrize("breaks", BREACHES)
def test_nothing_of_a_broken_annotator_is_committed(toys: Lake, breaks: str) -> None:
    report = run_stage(AnnotateStage(toys, Numbers(breaks=breaks)), execution=HERE, stop_rejects=1.0)  # type: ignore[arg-type]
    assert {r.error for r in report.rejects} == {"RuntimeError" if breaks == "falls" else "AnnotatorError"}
    assert Catalog(toys).latest("annotations").collect().is_empty()
    assert not [f for f in toys.fs.find(toys.root) if "/annotations/" in f and "/catalog/" not in f]
    assert not [f for f in toys.fs.find(toys.root) if "/receipts/" in f]
    assert set(Catalog(toys).latest("quarantine").collect()["stage"]) == {"annotate"}


def test_a_dataset_without_the_camera_gets_nothing_but_its_reason(toys: Lake) -> None:
    found = run_stage(AnnotateStage(toys, PictureQuality(PictureQualityConfig(cameras=("ceiling",)))), execution=HERE)
    assert found.count("done") == 2
    rows = read_annotations(Catalog(toys), "picture_quality", select_episodes(Catalog(toys)))
    assert set(rows["reason"]) == {"no_colour_camera"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_two_dask_workers_write_the_same_bytes(lake: Lake, tmp_path: Any) -> None:
    from distributed import LocalCluster

    other = Lake.at(tmp_path / "other")
    source = ToySource(lengths=(8, 7, 9, 8), per_group=1)
    for place in (lake, other):
        run_stage(IngestStage(place, source), execution=HERE)
    run_stage(AnnotateStage(lake, PictureQuality()), execution=HERE)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        there = Execution("dask", scheduler=cluster.scheduler_address)
        report = run_stage(AnnotateStage(other, PictureQuality()), execution=there)
    assert report.count("done") == 4
    mine, theirs = (
        {f.removeprefix(w.root): w.fs.cat_file(f) for f in w.fs.find(w.root) if "/annotations/" in f and "/catalog/" not in f}
        for w in (lake, other)
    )
    assert len(mine) == 4
    assert mine == theirs


def test_group_buckets_keep_lengths_together() -> None:
    made = [parts.Part(f"e{n}", 0, n, 0, n, n, n) for n in (9, 8, 300, 7, 16)]
    ordered = sorted(made, key=lambda p: parts.bucket(p.pictures))
    groups = [[p.pictures for p in g] for g in parts._groups(ordered, 1000)]
    assert groups == [[8, 7], [9, 16], [300]]
    assert np.isfinite(parts.HOLD_BYTES)
