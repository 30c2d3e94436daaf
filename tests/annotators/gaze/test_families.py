"""Every device family's gaze reaches its pictures: the point is where the device's own pixels are, at the device's own time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotators.check import check_output
from annotators.gaze.config import GazeConfig
from annotators.gaze.recorded import RecordedGaze
from annotators.gaze.samples import read_samples
from annotators.gaze.source import find_gaze
from pipelines.sources.gaze import Ego4dGazeSource, EgteaSource, PupilSource, TobiiSource
from tests.pipelines.sources.gaze_files import only, options, stream
from tests.pipelines.sources.test_gaze_ego4d import recording as ego4d
from tests.pipelines.sources.test_gaze_egtea import dataset as egtea
from tests.pipelines.sources.test_gaze_pupil import cloud, core
from tests.pipelines.sources.test_gaze_tobii import g2, g3
from tests.support.gaze import batch_of_draft

FAMILIES: dict[str, tuple[Any, Callable[[Path], Path], str]] = {
    "egtea": (EgteaSource, egtea, "pixels"),
    "ego4d": (Ego4dGazeSource, ego4d, "shares_up"),
    "cloud": (PupilSource, cloud, "pixels"),
    "core": (PupilSource, core, "shares_up"),
    "glasses 2": (TobiiSource, g2, "shares"),
    "glasses 3": (TobiiSource, g3, "shares"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_points_are_where_the_device_says(family: str, tmp_path: Path) -> None:
    kind, write, told = FAMILIES[family]
    source = kind(str(write(tmp_path / "rec")), options())
    draft = only(source)
    batch, gaze = batch_of_draft(source, draft), stream(draft, "gaze")
    found = find_gaze(batch.contract, GazeConfig())
    assert not isinstance(found, str)
    assert (found.kind, found.camera and found.camera.name) == (told, "scene")
    camera, pixels = batch.camera("scene"), gaze["values"][:, :2]
    samples = read_samples(batch, 0, found, GazeConfig())
    want = pixels / [camera.width, camera.height]
    assert samples.t_ns.tolist() == gaze["t"].tolist()
    assert np.isnan(samples.xy).tolist() == np.isnan(want).tolist()
    assert np.nanmax(np.abs(samples.xy - want)) <= 0.51 / min(camera.width, camera.height)
    annotator = RecordedGaze()
    for row in check_output(annotator, batch, annotator.run(batch)).to_pylist():
        near = int(np.abs(gaze["t"] - row["start_ns"]).argmin())
        assert row["reason"] in (None, "untracked", "no_sample")
        if row["valid"]:
            assert np.abs(np.array(row["xy"]) - np.clip(samples.xy[near], 0, 1)).max() < 1e-6
            assert abs(row["offset_ms"] - (gaze["t"][near] - row["start_ns"]) * 1e-6) < 1e-3
        elif row["reason"] == "untracked":
            assert not samples.known[near]
