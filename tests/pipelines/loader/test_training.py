"""A real policy trained twice, from our loader and from our LeRobot export, walks the same loss curve."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.exporters.base import ExportOptions
from pipelines.exporters.lerobot.verify import _load, offline
from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from schemas.mixture import MixtureSpec, SourceSpec, WindowSpec
from tests.support.lerobot import export_toy
from tests.support.toys import FPS, ToySource

STEPS, BATCH, CHUNK = 20, 4, 4
CAMERA, STATE, ACTION = "observation.images.front", "observation.state", "action"
TENSORS = (CAMERA, STATE, ACTION, "action_is_pad")


def act() -> Any:
    """A small ACT: one observation, a chunk of actions."""
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    config = ACTConfig(
        **features(), device="cpu", push_to_hub=False, chunk_size=CHUNK, n_action_steps=CHUNK, pretrained_backbone_weights=None,
        dim_model=32, n_heads=2, dim_feedforward=64, n_encoder_layers=1, n_vae_encoder_layers=1, latent_dim=8,
    )  # fmt: skip
    return ACTPolicy(config)


def diffusion() -> Any:
    """A small Diffusion policy: two observations, a chunk that begins at the first of them."""
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

    config = DiffusionConfig(
        **features(), device="cpu", push_to_hub=False, n_obs_steps=2, horizon=CHUNK, n_action_steps=2, down_dims=(16, 32), n_groups=4,
        pretrained_backbone_weights=None, use_group_norm=True, spatial_softmax_num_keypoints=4, diffusion_step_embed_dim=16,
        num_train_timesteps=10,
    )  # fmt: skip
    return DiffusionPolicy(config)


def features() -> dict[str, Any]:
    from lerobot.configs.types import FeatureType, PolicyFeature

    seen = {CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 64, 64)), STATE: PolicyFeature(FeatureType.STATE, (4,))}
    return {"input_features": seen, "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (4,))}}


def losses_of(make: Callable[[], Any], batches: list[dict[str, torch.Tensor]]) -> list[float]:
    """Train a small policy on the CPU, the same way every time, and return its loss per step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy = make()
    optimiser = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    losses: list[float] = []
    for batch in batches:
        loss, _ = policy.forward(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    return losses


def ready(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What a training loop does to either batch: pictures to [0, 1], numbers to about one."""
    found = {k: batch[k].clone() for k in TENSORS}
    found[CAMERA] = found[CAMERA].contiguous().float() / 255
    return found | {STATE: found[STATE] / 50, ACTION: found[ACTION] / 25}


POLICIES = {
    "act": (act, WindowSpec(action_horizon_s=CHUNK / FPS), {ACTION: [k / FPS for k in range(CHUNK)]}, 0.7),
    "diffusion": (
        diffusion, WindowSpec(observation_s=(-1 / FPS, 0.0), action_past_s=1 / FPS, action_horizon_s=(CHUNK - 1) / FPS),
        {CAMERA: [-1 / FPS, 0.0], STATE: [-1 / FPS, 0.0], ACTION: [(k - 1) / FPS for k in range(CHUNK)]}, 0.95,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # LeRobot's and its dependencies'
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_learns_the_same_from_the_loader_and_from_the_export(tmp_path: Path, name: str) -> None:
    make, windows, offsets, falls_to = POLICIES[name]
    job, _ = export_toy(tmp_path / "lake", tmp_path / "out", ToySource(), ExportOptions())
    lake = Lake.at(tmp_path / "lake")
    mix(lake, MixtureSpec("train", STEPS * BATCH, (SourceSpec(job.name),), seed=5, windows=windows, statistics=False))
    ours = load("train", lake)
    lengths = {r["episode_id"]: r["steps"] for r in Catalog(lake).latest("episodes").collect().iter_rows(named=True)}
    order = [e.episode_id for e in job.episodes]
    starts = dict(zip(order, np.cumsum([0, *(lengths[e] for e in order)]), strict=False))

    first: list[dict[str, torch.Tensor]] = []
    second: list[dict[str, torch.Tensor]] = []
    with offline():
        theirs = _load(tmp_path / "out", job, offsets)
        for batch in ours.loader(BATCH, threads=1):
            first.append(ready(batch))
            places = zip(batch["episode_id"], batch["frame_index"].tolist(), strict=True)
            items = [theirs[int(starts[episode]) + step] for episode, step in places]
            second.append(ready({k: torch.stack([item[k] for item in items]) for k in TENSORS}))
    assert len(first) == STEPS
    assert all(torch.equal(a[k], b[k]) for a, b in zip(first, second, strict=True) for k in TENSORS)
    a, b = losses_of(make, first), losses_of(make, second)
    assert a == pytest.approx(b, rel=1e-5)  # equal batches; CPU kernels may sum in another order
    assert np.mean(a[-5:]) < falls_to * np.mean(a[:5])  # and it learns
    assert losses_of(make, first[::-1]) != pytest.approx(b, rel=1e-5)  # the curve is one of the order, not of the model alone
