"""`cotrain train-controller`: annotated latents and recorded actions in, a controller in the lake out, measured on other episodes."""

import json

import numpy as np
import pytest
import torch

from annotators.latent.controller.model import ControllerSpec, load_controller
from annotators.latent.flow.flow_latent import FlowLatent, FlowLatentConfig
from catalog.lake import Lake
from pipelines.annotate import AnnotateStage
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.lam.controller import train_controller
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.moving_square import HZ, square_lake

SPEC = ControllerSpec(samples=1, width=16, heads=2, layers=1, steps=120, batch=64, rate=6e-3)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    torch.set_num_threads(1)
    lake = square_lake(Lake.at(tmp_path_factory.mktemp("squares") / "lake"), episodes=48, steps=5)
    flow = FlowLatent(FlowLatentConfig(hz=float(HZ), horizons_s=(0.2, 0.4)))
    run_stage(AnnotateStage(lake, flow), execution=Execution(workers=0))
    return lake


def test_pushes_and_flow_are_mapped_both_ways(annotated: Lake) -> None:
    trained = train_controller(annotated, "squares", "flow_latent", SPEC)
    assert trained.action == "action"
    assert trained.fitted + trained.heldout == 48 * 4  # the shorter horizon
    reports = {r.metric: r for r in trained.reports}
    assert reports["controller_action_r2"].gate == "pass"
    assert (reports["controller_action_r2"].value or 0) > 0.3
    controller = load_controller(trained.path)
    push = np.array([[[0.03, 0.0, 0.0]], [[-0.03, 0.0, 0.0]]], np.float32)
    right, left = controller.to_latents(push, np.array([[0.16, 0.16, 0.0]] * 2, np.float32))
    assert right[-6] > left[-6]  # the affine part's mean flow across
    assert train_controller(annotated, "squares", "flow_latent", SPEC).path == trained.path


def test_the_command_says_what_was_measured(annotated: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--set", "samples=1", "--set", "width=8", "--set", "heads=1", "--set", "steps=3", "--set", "layers=1"]
    done = run(
        [
            "train-controller",
            "squares",
            "--latents",
            "flow_latent",
            "--horizon",
            "0.4",
            "--lake",
            annotated.root,
            "--json",
            *quick,
        ]
    )
    told = json.loads(capsys.readouterr().out)
    assert done == 0
    assert {r["metric"] for r in told["reports"]} == {"controller_latent_r2", "controller_action_r2", "controller_round_trip_r2"}
    assert told["fitted"] + told["heldout"] == 48 * 3


def test_what_is_missing_is_named(annotated: Lake) -> None:
    with pytest.raises(UsageError, match="annotate --with latent_action"):
        train_controller(annotated, "squares")
    with pytest.raises(UsageError, match=r"there are \[0.2, 0.4\]"):
        train_controller(annotated, "squares", "flow_latent", SPEC, horizon_s=1.0)
    with pytest.raises(UsageError, match="no latents of camera 'wrist'"):
        train_controller(annotated, "squares", "flow_latent", SPEC, camera="wrist")
