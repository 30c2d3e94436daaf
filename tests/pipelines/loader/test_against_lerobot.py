"""On a real robot recording our samples are LeRobot's own, bit for bit, at every kind of edge."""

from pathlib import Path

import numpy as np
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.loader.load import load
from pipelines.sources.base import SourceOptions
from pipelines.sources.registry import open_source
from pipelines.unit import run_stage

HZ = 30
CAMERA = "observation.images.cam_high"
WINDOWS = {CAMERA: [-2 / HZ, 0.0], "observation.state": [-1 / HZ, 0.0, 5 / HZ], "action": [k / HZ for k in range(16)]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_samples_equal_lerobot_dataset(data: Path, lake: Lake):
    root = data / "lerobot" / "g1_v30_3ep"
    report = run_stage(IngestStage(lake, open_source(str(root), SourceOptions("g1"))), execution=Execution(workers=0))
    assert not report.rejects
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    theirs = LeRobotDataset("local/g1", root=root, delta_timestamps=WINDOWS, video_backend="pyav", return_uint8=True)
    ours = load("g1", lake, windows=WINDOWS)
    assert len(ours) == len(theirs) == 748
    ends = np.cumsum(Catalog(lake).latest("episodes").sort("first_row").collect()["steps"].to_numpy())
    edges = {int(end) + shift for end in (0, *ends) for shift in (-16, -2, -1, 0, 1, 2)}
    for index in sorted(i for i in edges if 0 <= i < 748):
        a, b = ours[index], theirs[index]
        assert a["task"] == b["task"]
        assert float(a["timestamp"]) == pytest.approx(float(b["timestamp"]))
        assert int(a["frame_index"]) == int(b["frame_index"])
        for key in WINDOWS:
            assert a[f"{key}_is_pad"].tolist() == b[f"{key}_is_pad"].tolist(), (index, key)
            assert a[key].dtype == b[key].dtype, key
            assert np.array_equal(a[key].numpy(), b[key].numpy()), (index, key)
