"""What the gaze adapters share: recognition, the contract, tables, the clock of a video, and real recordings through a whole ingest."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.sources.gaze.media import read_media
from pipelines.sources.gaze.table import parse_csv
from pipelines.sources.registry import open_source
from pipelines.unit import run_stage
from schemas.errors import LengthMismatchError, MalformedSourceError, UsageError
from tests.pipelines.sources.gaze_files import options, video

REAL = {
    "gaze/neon_part1": ("neon", {"neon_part1#ps1": 144}, 2),
    "gaze/aria_gen1_mps": ("aria", {"aria_gen1_mps": 123}, 0),
    "annotation/hot3d_aria": ("hot3d", {"P0003_c701bd11": 68, "P0003_c701bd11#mps": 11}, 0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_are_recognised_and_ingested_twice_the_same(lake: Lake, data: Path, name: str) -> None:
    kind, steps, rejected = REAL[name]
    source = open_source(str(data / name), SourceOptions("real"))
    assert source.name == kind
    report = run_stage(IngestStage(lake, source), execution=Execution(workers=0), stop_rejects=1.0)
    assert not report.count("failed")
    rows = Catalog(lake).latest("episodes").collect()
    assert dict(zip(rows["key"], rows["steps"], strict=True)) == steps
    assert sum(r.episodes for r in report.rejects) == rejected
    again = run_stage(IngestStage(lake, source), execution=Execution(workers=0), stop_rejects=1.0)
    assert again.worked == 0


def test_the_lake_keeps_nan_and_negative_times(lake: Lake, data: Path) -> None:
    for name in ("gaze/neon_part1", "gaze/aria_gen1_mps"):
        source = open_source(str(data / name), SourceOptions(name.rpartition("/")[2]))
        run_stage(IngestStage(lake, source), execution=Execution(workers=0), stop_rejects=1.0)
    shards = Catalog(lake).latest("shards").collect().filter(pl.col("kind") == "streams")
    opened = [pa.ipc.open_file(lake.fs.cat_file(lake.path(uri))).read_all() for uri in shards["uri"]]
    tables = [pl.DataFrame(pl.from_arrow(t.select(["stream", "t_ns", "values"]))) for t in opened]
    both = pl.concat([t.select(pl.col("stream").cast(pl.String), "t_ns", "values") for t in tables])
    assert both["t_ns"].min() == -2_293_313_160
    assert both.filter(pl.col("stream") == "hands")["values"].explode().is_nan().any()


@pytest.mark.parametrize("kind", ["neon", "hot3d", "aria", "tobii", "pupil", "egtea", "ego4d_gaze"])
def test_a_folder_without_a_recording_says_so(tmp_path: Path, kind: str) -> None:
    source = open_source(str(tmp_path), options(), kind)
    with pytest.raises(MalformedSourceError, match="holds no recording"):
        source.groups()
    with pytest.raises(UsageError, match="has no setting"):
        open_source(str(tmp_path), options(nonsense=1), kind).contract()


def test_seconds_are_exact_to_the_nanosecond() -> None:
    table = parse_csv(b"t\n1700000000.123456789\n 0.1 \n-2\n1e-9\n", "x.csv")
    assert table.seconds("t").tolist() == [1_700_000_000_123_456_789, 100_000_000, -2_000_000_000, 1]


@pytest.mark.parametrize("cell", ["", "soon", "inf"])
def test_a_cell_that_is_no_time_is_named_with_its_row(cell: str) -> None:
    with pytest.raises(MalformedSourceError, match=r"x.csv: 't' is .* in row 2 of 2, not a number of seconds \(1 such rows\)"):
        parse_csv(f"t,u\n1,2\n{cell},2\n".encode(), "x.csv").seconds("t")


def test_truth_values_are_numbers_and_missing_ones_nan() -> None:
    table = parse_csv(b"a,b,c\nTrue,-,x\nfalse,1.5,y\n", "x.csv")
    assert table.numeric() == ["a", "b"]
    assert np.array_equal(table.floats(["a", "b"]), [[1, np.nan], [0, 1.5]], equal_nan=True)
    with pytest.raises(MalformedSourceError, match=r"'c' is 'x' in row 1 of 2, not a number \(2 such rows\)"):
        table.floats(["c"])


@pytest.mark.parametrize(
    ("count", "stretch", "error"), [(12, 1.0, None), (9, 1.0, None), (15, 1.0, None), (9, 2.0, LengthMismatchError)]
)
def test_a_video_takes_the_clock_that_fits(tmp_path: Path, count: int, stretch: float, error: Any) -> None:
    media = read_media(str(video(tmp_path / "a.mp4", 12)), "scene")
    own = media.main.times_ns()
    pace = int(np.diff(own).mean())
    times = 10**18 + (np.arange(count) * pace * stretch).astype(np.int64)
    if error:
        with pytest.raises(error):
            media.on_clock(times)
        return
    moved, clock = media.on_clock(times)
    assert len(clock) == 12
    assert np.array_equal(moved.main.times_ns(), clock)
    both = min(count, 12)
    assert np.array_equal(clock[:both], times[:both])
    assert (np.diff(clock) > 0).all()
    assert len(moved.notes) == (count != 12)
