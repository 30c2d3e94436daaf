from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines import unit as units
from pipelines.annotate import AnnotateStage
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.integrity import verify_lake
from pipelines.loader.load import load
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.selection import choose
from pipelines.shards.draft import EpisodeDraft
from pipelines.shards.reader import open_shard
from pipelines.sources.base import Group, SourceOptions
from pipelines.standardise.presets import PRESETS, preset
from pipelines.standardise.stage import StandardiseStage
from pipelines.standardise.store import as_ingested, ops_in_force, ops_toml, read_ops
from pipelines.unit import Reject, StageReport, run_stage
from schemas.contract import Camera, Contract, Feature, Part
from schemas.errors import ContractError, LakeError, UnknownNameError, UsageError
from schemas.ids import episode_id
from schemas.mixture import load_spec
from tests.support.toys import LENGTHS, ToySource, ingest_toy
from tests.support.video import read_barcode
from transforms.standardise.ops import parse_ops, plain_ops

HERE = Execution(workers=0)
LIST = [{"op": "drop_first", "count": 2}, {"op": "slice_dims", "index": [3, 0]}, {"op": "rotate180", "cameras": ["front"]}]


def standardise(lake: Lake, raw: list[dict[str, Any]], dataset: str = "toy", **more: Any) -> StageReport:
    return run_stage(StandardiseStage(lake, dataset, parse_ops(raw), **more), execution=HERE, stop_rejects=1.0)


def rows(lake: Lake) -> pl.DataFrame:
    return Catalog(lake).latest("episodes").drop("unit", "committed_ns").collect()


def reading(lake: Lake, index: int, camera: str = "front") -> tuple[np.ndarray, list[int]]:
    """State and barcodes of one toy episode, read as every stage reads."""
    row = choose(lake, f"episode_id = '{episode_id('toy', str(index))}'").episodes.row(0, named=True)
    shard = open_shard(lake, "toy", row["shard"])
    steps = shard.episode_steps(row["episode_id"])
    pictures = shard.read(row["episode_id"], camera, steps.column(f"frame.{camera}").to_numpy())
    return np.stack(steps.column("observation.state").to_pylist()), [read_barcode(p) for p in pictures]


def test_a_list_in_force_is_what_everyone_reads_and_shards_stay_as_they_are(lake: Lake) -> None:
    ingest_toy(lake)
    before, files = rows(lake), {f: lake.fs.cat_file(f) for f in lake.fs.find(lake.path("shards"))}
    report = standardise(lake, LIST)
    assert (report.count("done"), report.total("rows")) == (1, sum(LENGTHS) - 2 * 4)
    after = rows(lake)
    assert after["steps"].sort().to_list() == sorted(n - 2 for n in LENGTHS)
    assert all("left out 2 of" in notes[0] for notes in after["notes"])
    assert not set(after["content_hash"]) & set(before["content_hash"])
    state, _ = reading(lake, 1)
    assert state[:, 0].tolist() == [*range(LENGTHS[0] + 2, LENGTHS[0] + LENGTHS[1])]
    sample = load("dataset:toy", lake)[0]
    assert sample["action"].shape == (2,)
    assert sample["frame_index"] == 0
    contract = open_shard(lake, "toy", after["shard"][0]).contract
    assert contract.feature("action").names == ("gripper", "x")
    assert contract.standardise == plain_ops(parse_ops(LIST))
    assert Contract.from_json(Catalog(lake).latest("datasets").collect()["contract"][0]) == contract
    assert {f: lake.fs.cat_file(f) for f in lake.fs.find(lake.path("shards"))} == files
    raw = open_shard(lake, "toy", before["shard"][0])  # the stored name reads the data as ingested
    assert raw.contract.feature("action").shape == (4,)
    assert verify_lake(lake).files == len(files)
    assert verify_lake(lake).ok


def test_pictures_are_edited_as_they_are_decoded(lake: Lake) -> None:
    ingest_toy(lake)
    _, plain = reading(lake, 0)
    standardise(lake, [{"op": "rotate180", "cameras": ["front"]}])
    turned = rows(lake)["shard"][0]
    shard = open_shard(lake, "toy", turned)
    name = episode_id("toy", "0")
    shown = shard.read(name, "front", np.arange(LENGTHS[0]))
    assert [read_barcode(p[::-1, ::-1]) for p in shown] == plain == list(range(LENGTHS[0]))
    assert reading(lake, 0, "wrist")[1] == [n + 1000 for n in range(LENGTHS[0])]
    assert shard.tracks[name, "front"].header.codec == "edited"
    assert shard.tracks[name, "wrist"].header.codec == "h264"
    picture = load("dataset:toy", lake)[3]["observation.images.front"]
    assert read_barcode(np.asarray(picture).transpose(1, 2, 0)[::-1, ::-1]) == 3


def test_a_list_is_put_in_force_once_changed_and_taken_back(lake: Lake) -> None:
    ingest_toy(lake)
    before = rows(lake)
    assert standardise(lake, LIST).worked == 1
    assert standardise(lake, LIST).units == ()
    first = rows(lake)
    assert standardise(lake, LIST[:1]).worked == 1
    assert rows(lake)["steps"].to_list() == first["steps"].to_list()
    assert standardise(lake, LIST).worked == 1  # the same list a second time is a new unit
    assert rows(lake).equals(first)
    assert standardise(lake, []).worked == 1
    assert rows(lake).equals(before)
    assert ops_in_force(Catalog(lake), "toy") == ()
    assert standardise(lake, []).units == ()


def test_a_row_knows_how_it_was_ingested(lake: Lake) -> None:
    ingest_toy(lake)
    before = Catalog(lake).latest("episodes").collect()
    standardise(lake, LIST)
    after = Catalog(lake).latest("episodes").collect()
    assert [as_ingested(r) for r in after.iter_rows(named=True)] == [as_ingested(r) for r in before.iter_rows(named=True)]


def test_what_was_pinned_before_stays_as_it_was(lake: Lake) -> None:
    ingest_toy(lake)
    spec = load_spec('name = "m"\nsamples = 8\n[[sources]]\nname = "toy"\n')
    old = mix(lake, spec)
    sample = load("m", lake)[0]
    standardise(lake, LIST)
    assert open_mixture(lake, "m").hash == old.hash
    again = load("m", lake)[0]
    assert all(np.array_equal(again[k], sample[k]) for k in sample)
    new = mix(lake, spec)
    assert new.hash != old.hash
    assert load(f"mixture:m@{new.hash}", lake)[0]["action"].shape == (2,)
    standardise(lake, LIST[:1])
    assert load(f"mixture:m@{new.hash}", lake)[0]["action"].shape == (2,)  # lists no longer in force can still be read


def test_annotations_belong_to_what_was_annotated(lake: Lake) -> None:
    ingest_toy(lake)

    def annotate() -> StageReport:
        return run_stage(AnnotateStage.named(lake, "language_motion"), execution=HERE)

    assert annotate().count("done") == 2
    standardise(lake, LIST)
    assert annotate().count("done") == 2
    assert annotate().count("skipped") == 2
    standardise(lake, [])
    assert annotate().count("skipped") == 2


def test_a_grown_source_is_seen_under_the_list(lake: Lake) -> None:
    ingest_toy(lake)
    standardise(lake, LIST)
    grown = replace(ToySource(), lengths=(*LENGTHS, 8, 7))
    run_stage(IngestStage(lake, grown), execution=HERE)
    assert rows(lake).height == 6
    assert rows(lake)["shard"].str.contains("~").all()
    assert rows(lake)["steps"].sum() == sum(grown.lengths) - 2 * 6
    assert standardise(lake, LIST).units == ()
    assert len(load("dataset:toy", lake)) == sum(grown.lengths) - 12
    standardise(lake, [])
    assert rows(lake)["steps"].sum() == sum(grown.lengths)
    fresh = Lake.at(f"{lake.root}-fresh")
    run_stage(IngestStage(fresh, grown), execution=HERE)
    assert rows(lake).equals(rows(fresh))


def test_filtered_episodes_stay_in_the_catalog_with_their_reason(lake: Lake) -> None:
    ingest_toy(lake)
    standardise(lake, [{"op": "filter_bounds", "feature": "observation.state", "index": [0], "high": 30.0}])
    left = Catalog(lake).latest("episodes").filter(pl.col("steps") == 0).collect()
    assert sorted(left["key"]) == ["2", "3"]
    assert all("filter_bounds left out" in n[-1] for n in left["notes"])
    assert sorted(select_episodes(Catalog(lake))["key"]) == ["0", "1"]
    assert Catalog(lake).latest("quarantine").collect().is_empty()
    with pytest.raises(UsageError, match="chooses no episode"):
        choose(lake, f"episode_id = '{episode_id('toy', '3')}'")
    assert len(load("dataset:toy", lake)) == sum(LENGTHS[:2])


def test_success_decides_where_the_catalog_knows_it(lake: Lake) -> None:
    ingest_toy(lake)
    standardise(lake, [{"op": "filter_success", "wanted": False}, {"op": "drop_last"}])
    assert rows(lake)["steps"].sum() == 0
    standardise(lake, [{"op": "filter_success"}, {"op": "language_from", "source": "key", "pattern": "(.*)"}])
    assert sorted(select_episodes(Catalog(lake))["task"]) == ["0", "1", "2", "3"]
    assert reading(lake, 2)[1] == [*range(21, 36)]


@dataclass(frozen=True)
class Packed(ToySource):
    """Every episode holds a text; that of `wrong` is no base64."""

    wrong: tuple[int, ...] = ()

    def contract(self) -> Contract:
        plain = ToySource.contract(self)
        return replace(plain, features=(*plain.features, Feature("packed", "string", ())), cameras=())

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        for index in group.payload:
            whole = ToySource.episode(ToySource(options=self.options, lengths=self.lengths), index)
            text = ["?!"] if index in self.wrong else ["AAAAAAAA8D8="]
            steps = whole.steps.drop_columns(["frame.front", "frame.wrist"])
            at = steps.schema.get_field_index("action") + 1
            import pyarrow as pa

            yield replace(whole, steps=steps.add_column(at, "packed", pa.array(text * steps.num_rows)), tracks=())


DECODE = [{"op": "decode_bytes", "feature": "packed", "text": "base64", "dtype": "float64", "shape": [1]}]


def test_an_episode_that_an_op_fails_on_is_quarantined_and_the_others_stand(lake: Lake) -> None:
    run_stage(IngestStage(lake, Packed(wrong=(1,))), execution=HERE)
    report = standardise(lake, DECODE, most_rejects=0.5)
    assert [(r.key, r.error) for r in report.rejects] == [("1", "ContractError")]
    assert "no base64 text" in report.rejects[0].message
    assert "op 1, decode_bytes" in report.rejects[0].message
    told = Catalog(lake).latest("quarantine").collect()
    assert told.select("stage", "dataset", "key").rows() == [("standardise", "toy", "1")]
    kept = select_episodes(Catalog(lake))
    assert sorted(kept["key"]) == ["0", "2", "3"]
    row = kept.filter(pl.col("key") == "0").row(0, named=True)
    steps = open_shard(lake, "toy", row["shard"]).episode_steps(row["episode_id"])
    assert steps.column("packed").to_pylist() == [1.0] * LENGTHS[0]


def test_a_list_that_fails_too_often_changes_nothing(lake: Lake) -> None:
    run_stage(IngestStage(lake, Packed(wrong=(0, 1, 2))), execution=HERE)
    before = rows(lake)
    with pytest.raises(UsageError, match="fails on 3 of 4 episodes of toy, so nothing was changed"):
        standardise(lake, DECODE)
    assert rows(lake).equals(before)
    with pytest.raises(ContractError, match="declares no feature 'nobody'"):
        standardise(lake, [{"op": "slice_dims", "feature": "nobody", "index": [0]}])
    with pytest.raises(UsageError, match="there is no dataset 'nothing'; there are: toy"):
        standardise(lake, LIST, "nothing")


def test_new_data_that_does_not_fit_the_list_is_quarantined(lake: Lake) -> None:
    run_stage(IngestStage(lake, Packed(lengths=(12, 9))), execution=HERE)
    standardise(lake, DECODE)
    grown = Packed(lengths=(12, 9, 15, 10), wrong=(2, 3))
    report = run_stage(IngestStage(lake, grown), execution=HERE, stop_rejects=1.0)
    assert any("fails on every new episode" in r.message for r in report.rejects)
    assert rows(lake).height == 2


def test_killed_between_its_two_appends_it_is_finished_by_the_next_run(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest_toy(lake)
    real = Catalog.append_all

    def dying(self: Catalog, table: str, *args: Any) -> Any:
        if table == "episodes":
            raise KeyboardInterrupt
        return real(self, table, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "append_all", dying)
        with pytest.raises(KeyboardInterrupt):
            standardise(lake, LIST)
    assert not rows(lake)["shard"].str.contains("~").any()
    report = standardise(lake, LIST)
    assert report.count("recovered") == 1
    assert rows(lake)["shard"].str.contains("~").all()
    assert units.pending(StandardiseStage(lake, "toy", parse_ops(LIST))) == []


def test_a_list_the_lake_does_not_know_is_told(lake: Lake) -> None:
    ingest_toy(lake)
    with pytest.raises(LakeError, match="run `cotrain standardize toy`"):
        _ = open_shard(lake, "toy", f"{rows(lake)['shard'][0]}~0123456789").steps


def test_cameras_can_trade_names(lake: Lake) -> None:
    ingest_toy(lake)
    standardise(
        lake,
        [{"op": "map_camera_roles", "names": {"front": "wrist", "wrist": "front"}}, {"op": "rotate180", "cameras": ["wrist"]}],
    )
    assert reading(lake, 0, "front")[1] == [n + 1000 for n in range(LENGTHS[0])]
    shard = open_shard(lake, "toy", rows(lake)["shard"][0])
    turned = shard.read(episode_id("toy", "0"), "wrist", [5])[0]
    assert read_barcode(turned[::-1, ::-1]) == 5


def test_ops_files_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "ops.toml"
    ops = parse_ops(
        [*LIST, {"op": "language_from", "source": "text", "of": 'say "hi"'}, {"op": "map_camera_roles", "names": {"a": "b"}}]
    )
    path.write_text(ops_toml(ops))
    assert read_ops(path) == ops
    path.write_text("ops = 3")
    with pytest.raises(UsageError, match=r"may hold only \[\[ops\]\] tables"):
        read_ops(path)
    path.write_text("[[ops")
    with pytest.raises(UsageError, match="is not TOML"):
        read_ops(path)
    with pytest.raises(UsageError, match="cannot read the ops file"):
        read_ops(tmp_path / "absent.toml")


def test_presets_do_what_the_contract_asks_for() -> None:
    parts = (Part("gripper", 0, 1, gripper_open=255.0, gripper_closed=0.0), Part("ee_position", 1, 4, unit="mm"))
    contract = Contract(
        "p", "robot", "p", 10.0, (Feature("action", "float32", (4,), role="action", parts=parts), Feature("angle", "float32", (1,), unit="deg")),
        (Camera("a", colour_order="bgr"), Camera("b")),
    )  # fmt: skip
    from transforms.standardise.ops import standard_contract

    after = standard_contract(contract, preset("canonical", contract))
    assert [(p.role, p.unit, p.gripper_open, p.gripper_closed) for p in after.feature("action").parts] == [
        ("gripper", None, 1.0, 0.0), ("ee_position", "m", None, None),
    ]  # fmt: skip
    assert after.feature("angle").unit == "rad"
    assert [c.colour_order for c in after.cameras] == ["rgb", "rgb"]
    assert preset("canonical", replace(after, standardise=())) == ()  # once is enough
    with pytest.raises(UnknownNameError, match="did you mean canonical"):
        preset("canonic", contract)


@pytest.mark.parametrize("name", [n for n in PRESETS if n != "canonical"])
def test_presets_of_data_sets_fit_contracts_of_their_kind(name: str) -> None:
    from transforms.standardise.ops import standard_contract

    state = Feature("observation.state", "float32", (7,), role="state")
    contract = Contract(
        name,
        "robot",
        name,
        5.0,
        (state, Feature("action", "float32", (7,), role="action", representation="delta")),
        (Camera("a"),),
    )
    after = standard_contract(contract, preset(name, contract))
    grips = [p for p in after.feature("action").parts if p.role == "gripper"]
    assert [(p.gripper_open, p.gripper_closed) for p in grips] == [(1.0, 0.0)]


def test_options_of_a_source_keep_their_contract(lake: Lake) -> None:
    source = replace(ToySource(), options=SourceOptions("other"))
    run_stage(IngestStage(lake, source), execution=HERE)
    ingest_toy(lake)
    standardise(lake, LIST)
    assert not rows(lake).filter(pl.col("dataset") == "other")["shard"].str.contains("~").any()
