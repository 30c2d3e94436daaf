"""Annotations joined to samples on request are those of the span that covers the step, and absent where none does."""

import numpy as np
import polars as pl
import pytest
import torch

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotations import read_annotations
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.loader.annotated import Spans, _plain
from pipelines.loader.load import load
from pipelines.sources.base import SourceOptions
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.motion import ArmSource
from tests.support.toys import ToySource, ingest_toy

TEXT = "annotation.language_motion.text"


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Three shards of motion, annotated, beside a dataset that is not."""
    lake = Lake.at(tmp_path_factory.mktemp("annotated") / "lake")
    run_stage(IngestStage(lake, ArmSource(seeds=(0, 1, 2))), execution=Execution(workers=0))
    run_stage(AnnotateStage.named(lake, "language_motion", "all", {}), execution=Execution(workers=0))
    ingest_toy(lake, ToySource(options=SourceOptions("toy_b"), lengths=(5,)))
    return lake


def test_samples_carry_the_span_that_covers_them(annotated):
    episodes = Catalog(annotated).latest("episodes").collect()
    rows = read_annotations(Catalog(annotated), "language_motion", episodes).filter("valid")
    dataset = load("arm", annotated, annotations=["language_motion"])
    said = 0
    for sample in dataset.__getitems__(range(len(dataset))):
        step = int(sample["frame_index"])
        mine = rows.filter(
            (rows["episode_id"] == sample["episode_id"]) & (rows["start_step"] <= step) & (step < rows["end_step"])
        )
        assert (TEXT in sample) == bool(len(mine))
        if len(mine):
            assert sample[TEXT] == mine["text"][-1]
            said += 1
    assert said
    assert not [k for k in load("arm", annotated)[0] if k.startswith("annotation.")]


def test_batches_have_them_for_every_sample_or_a_mask(annotated):
    dataset = load("arm", annotated, annotations=["language_motion"])
    batch = next(iter(dataset.loader(80, threads=1)))
    samples = dataset.__getitems__(range(80))
    assert batch[TEXT] == [s.get(TEXT, "") for s in samples]
    assert dataset.reader.annotated.fields
    for field in (f for f in dataset.reader.annotated.fields if f.dtype != "string"):
        assert batch[f"{field.key}_is_pad"].tolist() == [field.key not in s for s in samples]
        assert isinstance(batch[field.key], torch.Tensor)


def test_what_was_never_said_is_refused(annotated):
    with pytest.raises(UsageError, match="has annotated none of these episodes"):
        load("toy_b", annotated, annotations=["language_motion"])
    with pytest.raises(UsageError, match="annotators that have run: language_motion"):
        load("arm", annotated, annotations=["gaze"])


def test_the_latest_of_overlapping_spans_is_meant():
    spans = Spans({"a": (0, 3), "b": (3, 4)}, np.array([[0, 9], [2, 5], [7, 8], [0, 1]]), {})
    assert [spans.at("a", step) for step in (0, 2, 4, 5, 7, 8, 9)] == [0, 1, 1, 0, 2, 0, None]
    assert [spans.at("b", 0), spans.at("b", 1), spans.at("c", 0)] == [3, None, None]


def test_a_vector_that_one_row_lacks_is_still_a_vector():
    found = _plain(pl.Series([[1.0, 2.0], None, [3.0, None]]))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, [[1, 2], [np.nan, np.nan], [3, np.nan]])
    codes = _plain(pl.Series([[1, 2], None], dtype=pl.List(pl.Int32)))
    assert isinstance(codes, np.ndarray)
    assert codes.tolist() == [[1, 2], [0, 0]]
    assert _plain(pl.Series([[1.0], [2.0, 3.0]])) is None
