"""RLDS in, RLDS out: the same tree, the same values, the same bytes of every picture."""

import json
import shutil
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.export import ExportStage
from pipelines.exporters.base import ExportEpisode, ExportJob, ExportOptions
from pipelines.exporters.rlds.check import check_export
from pipelines.exporters.rlds.exporter import RldsExporter
from pipelines.exporters.rlds.layout import build_layout
from pipelines.exporters.rlds.shards import write_index
from pipelines.exporters.rlds.survey import survey
from pipelines.exporters.rlds.tfds_process import read_with_tfds
from pipelines.exporters.rlds.verify_source import differences
from pipelines.formats.dataset_info import DatasetInfo
from pipelines.formats.example import decode_example, encode_example
from pipelines.formats.tfds_features import read_features
from pipelines.formats.tfds_slots import Value, slots
from pipelines.formats.tfrecord import RecordWriter, read_record, read_records
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.sources.rlds import RldsSource
from pipelines.unit import run_stage
from schemas.annotation import LanguageRow
from schemas.errors import UsageError
from tests.support.rlds import RICH, flip, offsets_of, plain_values, rich_values, write_dataset

needs_tfds = pytest.mark.skipif(
    find_spec("tensorflow_datasets") is None or find_spec("tensorflow") is None, reason="needs the extra cotrain[tfds]"
)


def job_of(lake: Lake, uri: Path, folder: Path, motions: bool = False, **options: Any) -> ExportJob:
    source = RldsSource(str(uri), SourceOptions("toy", contract=options.pop("contract", None)))
    report = run_stage(IngestStage(lake, source), execution=Execution(workers=0))
    assert report.rejects == ()
    rows = select_episodes(Catalog(lake)).to_dicts()
    episodes = tuple(ExportEpisode(r["episode_id"], r["dataset"], r["shard"], r) for r in rows)
    folder.mkdir(parents=True)
    language = {episodes[0].episode_id: (LanguageRow("motion", "move", 0),)} if motions else {}
    return ExportJob(lake, "toy", episodes[0].open(lake).contract, episodes, folder, ExportOptions(**options), language)


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Every record of a version folder by `split/number`, in file order."""
    info, found = DatasetInfo.read(folder), {}
    for split in info.splits:
        payloads = [data for shard in info.shards(split) for _, data in read_records(folder / shard)]
        found |= {f"{split.name}/{i:06d}": decode_example(data) for i, data in enumerate(payloads)}
    return found


def exported(job: ExportJob) -> dict[str, dict[str, Any]]:
    """Every exported record by the key of its episode in the source."""
    folder, keys = job.folder / job.options.version, {e.episode_id: e.row["key"] for e in job.episodes}
    rows = pl.read_parquet(folder / "index.parquet").to_dicts()
    return {keys[r["episode_id"]]: decode_example(read_record(folder / r["shard"], r["offset"])) for r in rows}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return one == other
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def assert_equal(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
    assert set(before) == set(after)
    for key, record in before.items():
        assert set(record) == set(after[key])
        assert [name for name in record if not same(record[name], after[key][name])] == []


@pytest.mark.parametrize("make", ["plain", "rich"])
def test_every_feature_and_every_byte_returns(lake: Lake, tmp_path: Path, make: str) -> None:
    source = write_dataset(tmp_path / "in") if make == "plain" else write_dataset(tmp_path / "in", RICH, rich_values)
    (source / "steps-x.labels.txt").write_text("a\nb\n")
    job = job_of(lake, source, tmp_path / "out" / "toy", val_share=0.5)
    report = RldsExporter().export(job)
    out = job.folder / "1.0.0"
    assert list(check_export(out)) == []
    assert json.loads((out / "features.json").read_text()) == json.loads((source / "features.json").read_text())
    assert (out / "steps-x.labels.txt").read_text() == "a\nb\n"
    assert_equal(records_of(source), exported(job))
    assert report.transcoded == 0


def test_bridge_returns_bit_for_bit(data: Path, lake: Lake, tmp_path: Path) -> None:
    source = data / "rlds" / "bridge_dataset" / "1.0.0"
    job = job_of(lake, source, tmp_path / "out")
    RldsExporter().export(job)
    assert read_features(job.folder / "1.0.0") == read_features(source)
    assert_equal(records_of(source), exported(job))
    assert json.loads((job.folder / "1.0.0" / "provenance.json").read_text())["layout"] == "source"


def test_texts_of_annotators_are_added_and_nothing_else_changes(lake: Lake, tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "in")
    job = job_of(lake, source, tmp_path / "out", motions=True)
    RldsExporter().export(job)
    out = job.folder / "1.0.0"
    assert list(check_export(out)) == []
    before, after = records_of(source), exported(job)
    added = {key: record.pop("steps/language_motion") for key, record in after.items()}
    assert set(added[job.episodes[0].row["key"]]) == {b"move"}
    assert_equal(before, after)
    assert {s.key for s in slots(read_features(out))} == {s.key for s in slots(read_features(source))} | {"steps/language_motion"}


def test_an_overlay_keeps_the_tree_and_privileged_leaves_do_not_leak(lake: Lake, tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "in")
    job = job_of(
        lake, source, tmp_path / "out", contract={"control_hz": 5.0, "features": {"observation.state": {"privileged": True}}}
    )
    RldsExporter().export(job)
    keys = {s.key for s in slots(read_features(job.folder / "1.0.0"))}
    assert "steps/observation/state" not in keys
    assert {"steps/timestamp_ns", "episode_metadata/episode_id"} <= keys  # the exporter's own layout
    other = ExportJob(lake, "toy", job.contract, job.episodes, tmp_path / "all", ExportOptions(privileged=True))
    other.folder.mkdir()
    RldsExporter().export(other)
    assert_equal(records_of(source), exported(other))


def test_the_check_finds_what_is_damaged_or_undeclared(lake: Lake, tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "in")
    job = job_of(lake, source, tmp_path / "out", val_share=0.0)
    RldsExporter().export(job)
    out = job.folder / "1.0.0"
    declared = (out / "features.json").read_text()
    (out / "features.json").write_text(declared.replace('"discount"', '"other"'))
    problems = list(check_export(out))
    assert [p for p in problems if "steps/discount" in p]
    assert [p for p in problems if "steps/other is declared" in p]
    (out / "features.json").write_text(declared)
    [shard] = out.glob("*train*")
    flip(shard, 200)
    assert [p for p in check_export(out) if "damaged" in p]


def test_statistics_are_of_the_source_features(lake: Lake, tmp_path: Path) -> None:
    job = job_of(lake, write_dataset(tmp_path / "in"), tmp_path / "out", val_share=0.0)
    RldsExporter().export(job)
    said = json.loads((job.folder / "1.0.0" / "dataset_statistics.json").read_text())
    made = np.concatenate(
        [
            plain_values(s, i, n)["steps/action"].items
            for s, ns in (("train", (4, 3, 5)), ("val", (2, 4)))
            for i, n in enumerate(ns)
        ]
    )
    np.testing.assert_allclose(said["action"]["mean"], made.astype(np.float64).mean(0))
    assert "toy" in (job.folder / "README.md").read_text()


def simpler(split: str, index: int, count: int) -> dict[str, Value]:
    """Return `rich_values` without what TFDS itself cannot read back: a camera without pictures, and an optional leaf left out."""
    values = rich_values(split, index, count)
    values["steps/observation/gone"] = values["steps/observation/depth"]
    return values | {"steps/observation/maybe": Value(np.zeros(count, np.float32))}


@needs_tfds
def test_tfds_reads_the_same_values_but_for_what_was_tampered_with(lake: Lake, tmp_path: Path) -> None:
    """Every checksum and count holds, so only TFDS' own reading can tell; it finds the two changes and no other difference."""
    source = write_dataset(tmp_path / "in", RICH, simpler, lengths={"train": (4, 3), "val": (2,)})
    job = job_of(lake, source, tmp_path / "out", motions=True, privileged=True)
    RldsExporter().export(job)
    out = job.folder / "1.0.0"
    [shard] = out.glob("*train*")
    tampered = [decode_example(data) for _, data in read_records(shard)]
    tampered[1]["steps/observation/cloud"][2] = zlib.compress(np.ones(6, "<f4").tobytes())
    tampered[1]["steps/action"] = tampered[1]["steps/action"] + 1
    index = pl.read_parquet(out / "index.parquet").to_dicts()
    with RecordWriter(shard) as writer:
        for row, record in zip(index, tampered, strict=True):
            span = writer.write(encode_example(record))
            row |= {"offset": span.offset, "length": span.length}
    write_index(out, index)
    info, size = DatasetInfo.read(out), sum(row["length"] for row in index)
    (out / "dataset_info.json").write_text(info.to_json().replace(str(info.split("train").bytes), str(size)))
    report = RldsExporter().verify(job.folder, job, every=2)
    told = [d.partition(", ") for d in report.differences]
    assert [t[2] for t in told] == ["steps/observation/cloud: other values", "steps/action: other values"]
    assert {t[0] for t in told} == {job.episodes[1].episode_id}
    assert (report.episodes, report.steps_compared) == (3, 9)
    assert report.frames_compared == 4 * (2 + 2 + 1)
    assert report.reader.startswith("tfds ")
    assert "tensorflow" not in sys.modules


@needs_tfds
def test_tfds_reads_bridge_as_the_lake_does(data: Path, lake: Lake, tmp_path: Path) -> None:
    real, source = data / "rlds" / "bridge_dataset" / "1.0.0", tmp_path / "in" / "bridge_dataset" / "1.0.0"
    source.mkdir(parents=True)
    shutil.copy(real / "features.json", source)
    whole = next(real.glob("*-val.*"))
    stop = offsets_of(whole)[3][0]
    (source / whole.name).write_bytes(whole.read_bytes()[:stop])  # three episodes: TFDS takes its time for each
    info = json.loads((real / "dataset_info.json").read_text())
    info["splits"] = [s | {"shardLengths": ["3"]} for s in info["splits"] if s["name"] == "val"]
    (source / "dataset_info.json").write_text(json.dumps(info))
    job = job_of(lake, source, tmp_path / "out")
    layout = build_layout(job, survey(job))
    episodes = {e.row["key"]: e for e in job.episodes}
    assert layout.origin is not None
    leaves = 0
    with read_with_tfds(source, 5) as stream:
        for number, got in enumerate(stream.episodes):
            found = list(differences(job, layout, layout.origin, episodes[f"val/{number:06d}"], got, 5))
            assert [d for d in found if d[1]] == []
            leaves += len(found)
    assert leaves == 3 * 20


def test_the_splits_of_the_source_return_too_unless_they_leak(data: Path, lake: Lake, tmp_path: Path) -> None:
    """`cotrain export` keeps what the source split, and refuses bridge, whose two splits hold the same episodes."""
    source = write_dataset(tmp_path / "in")
    for name, uri in (("toy", source), ("bridge", data / "rlds" / "bridge_dataset")):
        run_stage(IngestStage(lake, RldsSource(str(uri), SourceOptions(name))), execution=Execution(workers=0))
    stage = lambda what, **options: ExportStage(lake, what, "rlds", str(tmp_path / "out"), options=ExportOptions(**options))  # noqa: E731
    run_stage(stage("toy"), execution=Execution(workers=0))
    before, after = records_of(source), records_of(tmp_path / "out" / "toy" / "1.0.0")
    assert_equal(before, after)
    with pytest.raises(UsageError, match="split"):
        run_stage(stage("bridge"), execution=Execution(workers=0))
    run_stage(stage("bridge", split="hash"), execution=Execution(workers=0))
    assert len(records_of(tmp_path / "out" / "bridge" / "1.0.0")) == 50
