"""A small latent action model that saw nobody's actions passes the gates on a film of pushes; its twins fail them.

Seconds of what `python -m benchmarks.latent_gates film` does at length.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from annotators.latent.config import Lam, LamConfig
from annotators.latent.evaluation import Imagination
from annotators.latent.gates.actions import judge_actions
from annotators.latent.gates.dreams import judge_dreams
from annotators.latent.gates.evidence import Evidence
from annotators.latent.learn import fit
from annotators.latent.model import build
from tests.support.moving_square import evidence, pushes, scenes, square_flow, square_pool

SIDE = 16


@pytest.fixture(scope="module")
def judged() -> tuple[Imagination, Evidence]:
    torch.set_num_threads(1)
    settings = {"steps": 120, "batch": 32, "width": 8, "dim": 4, "flow": 1.0, "derive": 0}
    lam = Lam(LamConfig(side=SIDE, horizons_s=(0.2,))).changed(settings)
    film = pushes(256, 2, 8, side=SIDE)
    mind, blank = (Imagination(m, 0) for m in (fit(square_pool(pushes(512, 2, 7, side=SIDE)), lam), build(lam).eval()))
    latent, before = (m.infer(scenes(film).first, scenes(film).second) for m in (mind, blank))
    return mind, evidence(film, latent, random=before, flow=square_flow(film))


def test_it_tells_pushes_better_than_everybody_who_learnt_nothing(judged: tuple[Imagination, Evidence]) -> None:
    report = judge_actions(judged[1], network=False)[0]
    assert report.gate == "pass"
    assert (report.value or 0) > 0.7
    assert report.value == pytest.approx(max(report.value or 0, *(report.baselines[n] for n in ("flow_latent", "random_init"))))


@pytest.mark.parametrize("twin", ["shuffled", "copy_collapsed", "random_init"])
def test_its_twins_fail(judged: tuple[Imagination, Evidence], twin: str) -> None:
    own = judged[1]
    assert own.random is not None
    twins = {
        "shuffled": own.shuffled(),
        "copy_collapsed": replace(own, latent=np.zeros_like(own.latent)),
        "random_init": replace(own, latent=own.random),
    }
    assert judge_actions(twins[twin], network=False)[0].gate == "fail"


def test_its_decoder_explains_changes_by_the_latent(judged: tuple[Imagination, Evidence]) -> None:
    found = {r.metric: r for r in judge_dreams(judged[0], scenes(pushes(256, 2, 8, side=SIDE)))}
    assert found["gain_on_changed"].gate == "pass"
    assert (found["gain_on_changed"].value or 0) > found["gain_on_changed"].baselines["mean_latent"] + 0.02
    assert (found["shuffle_ratio"].value or 0) > 1
