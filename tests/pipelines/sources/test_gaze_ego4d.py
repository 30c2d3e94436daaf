"""Ego4D's gaze tables, made here with the header and the times of the documentation's sample."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.sources.base import SourceOptions
from pipelines.sources.gaze import Ego4dGazeSource
from pipelines.sources.registry import open_source
from tests.contracts.source import SourceContract
from tests.pipelines.sources.gaze_files import columns, only, options, packets, read, says, stream, video

UID = "0a1b-2c3d"
POINTS = ("gaze_point_3d_x", "gaze_point_3d_y", "gaze_point_3d_z")
HEADER = f"component_idx,component_timestamp_s,canonical_timestamp_s,world_index,confidence,norm_pos_x,norm_pos_y,base_data,{','.join(POINTS)}"
ROWS = [
    "0,0.0,0.0,10583.0,1.0,0.25,0.75,,,,", "0,0.004,0.004056999999988875,10583.0,1.0,0.5,0.5,,1.5,2.5,300.0",
    "1,0.0,0.2,10590.0,0.0,,,,,,", "1,0.1,0.300000001,10592.0,0.9,1.5,0.1,1234.5-0 1234.5-1,,,",
]  # fmt: skip


def recording(folder: Path, uid: str = UID, rows: list[str] | None = None, *, with_video: bool = True) -> Path:
    (folder / "v2" / "gaze").mkdir(parents=True, exist_ok=True)
    (folder / "v2" / "gaze" / f"{uid}.csv").write_text("\n".join([HEADER, *(ROWS if rows is None else rows)]) + "\n")
    if with_video:
        video(folder / "v2" / "full_scale" / f"{uid}.mp4", 12)
    return folder


class TestEgo4dContract(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return Ego4dGazeSource(str(recording(tmp_path_factory.mktemp("ego4d"))), options())


def test_gaze_is_on_the_videos_clock_and_turned_over(tmp_path: Path) -> None:
    source = Ego4dGazeSource(str(recording(tmp_path)), options())
    draft = only(source)
    assert draft.key == UID
    assert draft.tracks[0].data == packets(tmp_path / "v2" / "full_scale" / f"{UID}.mp4")
    gaze = stream(draft, "gaze")
    assert gaze["t"].tolist() == [0, 4_057_000, 200_000_000, 300_000_001]
    assert gaze["values"][:, :2] == pytest.approx(np.array([[16, 16], [32, 32], [np.nan] * 2, [96, 57.6]]), nan_ok=True)
    assert columns(source, "gaze") == ["x", "y", "world_index", "confidence", "norm_pos_x", "norm_pos_y", *POINTS]


def test_it_is_recognised_before_plain_videos_and_takes_only_what_has_gaze(tmp_path: Path) -> None:
    recording(tmp_path)
    video(tmp_path / "v2" / "full_scale" / "other.mp4", 4)
    (tmp_path / "v2" / "gaze" / "manifest.csv").write_text("video_uid,s3_path\na,b\n")
    source = open_source(str(tmp_path), SourceOptions("ego4d"))
    assert source.name == "ego4d_gaze"
    assert [d.key for d in read(source)[0]] == [UID]


def test_without_its_video_each_sample_is_a_step_and_without_samples_there_is_none(tmp_path: Path) -> None:
    draft = only(Ego4dGazeSource(str(recording(tmp_path / "a", with_video=False)), options()))
    assert draft.steps.num_rows == 4
    assert says(draft, f"there is no video {UID}.mp4")
    drafts, rejects = read(Ego4dGazeSource(str(recording(tmp_path / "b", rows=[])), options()))
    assert not drafts
    assert [r.error for r in rejects] == ["MalformedSourceError"]
