"""What latents are worth with few labels: good ones pass, shuffled ones fail, and what nobody can clone is not measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from annotators.latent.gates.downstream import judge_downstream
from annotators.latent.gates.evidence import Evidence
from annotators.latent.gates.probe import ridge_predict


@pytest.fixture(scope="module")
def world() -> Evidence:
    """40 episodes in which a hidden direction of the picture decides the action, next to 60 that do not matter."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    first = rng.normal(size=(800, 60))
    action = first[:, :2] * 2 + 0.5 * rng.normal(size=(800, 2))
    second = first + action @ rng.normal(size=(2, 60)) * 0.1 + 0.3 * rng.normal(size=(800, 60))
    latent = action @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(800, 4))
    names = tuple(f"episode-{e}" for e in range(40))
    f32 = (x.astype(np.float32) for x in (first, second))
    return Evidence(latent.astype(np.float32), action, np.arange(800) // 20, names, ("x", "y"), "the world", *f32)


def test_latents_that_hold_the_action_make_few_labels_go_far(world: Evidence) -> None:
    report = judge_downstream(world, (0.05,))[0]
    assert (report.metric, report.gate) == ("downstream_r2_5pct", "pass")
    assert report.baselines.keys() == {"labels_only", "supervised_idm", "shuffled", "all_labels"}
    assert (report.value or 0) > report.baselines["labels_only"] + 0.1
    assert report.baselines["all_labels"] >= (report.value or 1) - 0.05


def test_shuffled_latents_fail(world: Evidence) -> None:
    assert judge_downstream(world.shuffled(), (0.05,))[0].gate == "fail"


def test_what_no_picture_tells_cannot_be_cloned(world: Evidence) -> None:
    random = replace(world, action=np.random.default_rng(1).normal(size=world.action.shape))
    reports = judge_downstream(random)
    assert {r.gate for r in reports} == {"not-measurable"}
    assert "nobody can clone" in reports[0].gt_source
    assert judge_downstream(world, (0.001,))[0].gate == "not-measurable"


def test_the_left_out_error_decides_the_ridge() -> None:
    rng = np.random.default_rng(2)
    x, fit = rng.normal(size=(300, 40)), np.arange(300) < 60
    y = x[:, :1] + 2.0 * rng.normal(size=(300, 1))
    found = ridge_predict(x, y, fit)
    plain = x @ np.linalg.lstsq(x[fit], y[fit], rcond=None)[0]
    truth = x[:, :1]
    assert np.square(found - truth)[~fit].mean() < 0.5 * np.square(plain - truth)[~fit].mean()
