"""From recordings with gaze to trained weights, side tables, reports, and texts for exporters."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from annotators.gaze.model import GazeNetSpec, read_spec
from annotators.registry import open_annotator
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.annotate.quality import evaluate
from pipelines.annotations import language_rows, read_annotations
from pipelines.cli.app import app
from pipelines.executors import Execution
from pipelines.exporters.dense import find_dense, open_annotated
from pipelines.gaze_weights import train_gaze
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.sources.gaze import PupilSource
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.gaze import Ego, wearer
from tests.support.motion import ArmSource

HERE = Execution(workers=0)
EGO = Ego(seconds=3.0)
SPEC = GazeNetSpec(side=32, frames=2, width=4, dim=16, layers=1, heads=1, steps=2, batch=2)
START = 1_700_000_000_000_000_000
SEEDS = tuple(range(6))


def recording(folder: Path, seed: int) -> None:
    """A Pupil Cloud export of one wearer."""
    folder.mkdir(parents=True)
    batch = wearer((seed,), 15, EGO)
    clip = batch.clips["scene"][0]
    with av.open(str(folder / "scene.mp4"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=EGO.fps, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = *EGO.size, "yuv420p"
        for at, picture in enumerate(clip.pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, EGO.fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    gaze = batch.stream(batch.episodes[0], "gaze")
    samples = zip(gaze.column("t_ns").to_pylist(), gaze.column("values").to_pylist(), strict=True)
    worn = ["0.0" if t < 200_000_000 else "1.0" for t in gaze.column("t_ns").to_pylist()]
    rows = [f"{START + t},{x},{y},{w}" for (t, (x, y)), w in zip(samples, worn, strict=True)]
    (folder / "gaze.csv").write_text("\n".join(["timestamp [ns],gaze x [px],gaze y [px],worn", *rows]) + "\n")
    times = [str(START + int(t)) for t in clip.t_ns]
    (folder / "world_timestamps.csv").write_text("\n".join(["timestamp [ns]", *times]) + "\n")
    k = np.reshape(batch.camera("scene").intrinsics or (), (3, 3)).tolist()
    (folder / "scene_camera.json").write_text(json.dumps({"camera_matrix": k, "distortion_coefficients": [[0.0] * 8]}))
    (folder / "info.json").write_text(json.dumps({"recording_id": f"r{seed}"}))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("gaze")
    for seed in SEEDS:
        recording(root / "source" / f"take{seed}", seed)
    lake = Lake.at(root / "lake")
    report = run_stage(IngestStage(lake, PupilSource(str(root / "source"), SourceOptions("wearers"))), execution=HERE)
    assert report.rejects == ()
    return lake


def test_weights_are_trained_on_one_half_and_annotate_everything(recorded: Lake) -> None:
    trained = train_gaze(recorded, "wearers", SPEC, device="cpu")
    assert 0 < trained.episodes < len(SEEDS)
    assert trained.fixations > 10
    assert read_spec(trained.path) == SPEC
    stage = AnnotateStage.named(recorded, "predicted_gaze", "all", {"weights": trained.path})
    report = run_stage(stage, execution=HERE)
    assert report.rejects == ()
    episodes = Catalog(recorded).latest("episodes").collect()
    rows = read_annotations(Catalog(recorded), "predicted_gaze", episodes)
    assert rows["valid"].all()
    assert set(rows["source"]) == {"predicted"}
    found = evaluate(recorded, open_annotator("predicted_gaze", {"weights": trained.path}))["wearers"]
    assert {r.metric: r.gate for r in found}["gaze_sauc"] in ("pass", "fail")
    assert found[0].split == "test"


def test_recorded_gaze_is_measured_with_pictures_and_chains_become_language_rows(recorded: Lake) -> None:
    for name in ("gaze", "gaze_chain"):
        assert run_stage(AnnotateStage.named(recorded, name, "all", {}), execution=HERE).rejects == ()
    catalog = Catalog(recorded)
    episodes = catalog.latest("episodes").collect()
    rows = read_annotations(catalog, "gaze", episodes)
    assert set(rows.filter(~rows["valid"])["reason"]) == {"untracked"}  # before it was put on
    assert 0.9 < rows["valid"].sum() / rows.height < 0.95
    reports = {r.metric: r for r in evaluate(recorded, open_annotator("gaze"))["wearers"]}
    assert reports["gaze_lag_ms"].gate == "pass"
    assert reports["gaze_round_trip_px"].gate == "pass"
    told = language_rows(catalog, episodes)
    assert set(told) == set(episodes["episode_id"])
    assert {r.style for rows in told.values() for r in rows} == {"gaze"}
    assert all(r.text.startswith("look at <loc") and r.camera == "scene" for rows in told.values() for r in rows)
    dense = find_dense(catalog, ["gaze_chain"], episodes)
    for shard in dense:
        steps = open_annotated(recorded, "wearers", shard, dense[shard]).steps
        place, box = (np.stack(steps.column(f"annotation.gaze_chain.{n}").to_pylist()) for n in ("xy", "box"))
        assert np.isfinite(place).all(1).mean() > 0.5
        assert np.isnan(box).all()  # nobody told which thing it was


def test_a_selection_without_gaze_is_refused(recorded: Lake, tmp_path: Path) -> None:
    other = Lake.at(tmp_path / "lake")
    run_stage(IngestStage(other, ArmSource(seeds=(0,))), execution=HERE)
    with pytest.raises(UsageError, match=r"no recorded gaze in pictures \(no_colour_camera\)"):
        train_gaze(other, "all", SPEC, device="cpu")
    with pytest.raises(UsageError, match=r"no_end_effector|recorded_gaze"):
        train_gaze(recorded, "wearers", replace(SPEC, labels="pseudo_intent"), device="cpu")


SPEC_FIELDS: dict[str, Any] = {"side": 32, "frames": 2, "width": 4, "dim": 16, "layers": 1, "heads": 1, "steps": 2, "batch": 2}


def test_the_command_says_where_the_weights_are(recorded: Lake) -> None:
    settings = [part for k, v in SPEC_FIELDS.items() for part in ("--set", f"{k}={v}")]
    found = CliRunner().invoke(
        app, ["train-gaze", "wearers", "--lake", str(recorded.root), "--device", "cpu", "--json", *settings]
    )
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    assert (told["command"], told["spec"]["side"]) == ("train-gaze", 32)
    assert recorded.fs.exists(told["path"])
