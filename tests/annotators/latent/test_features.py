"""Frozen features: functions and local checkpoints of transformers, tiny ones made from their configuration."""

from pathlib import Path

import numpy as np
import pytest
import torch

from annotators.latent import checkpoint
from annotators.latent.config import Lam
from annotators.latent.features import as_map, features_weights, open_features
from annotators.latent.model import build
from schemas.errors import UsageError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def dino(folder: Path, seed: int = 0) -> str:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=7)
    Dinov2Model(config).save_pretrained(folder)
    return f"transformers:{folder}"


def dino3(folder: Path) -> str:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8,
        num_register_tokens=2,
    )  # fmt: skip
    DINOv3ViTModel(config).save_pretrained(folder)
    return f"transformers:{folder}"


def vjepa(folder: Path) -> str:
    from transformers import VJEPA2Config, VJEPA2Model

    config = VJEPA2Config(
        patch_size=8, crop_size=32, frames_per_clip=2, tubelet_size=2, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
        mlp_ratio=2.0, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=1,
    )  # fmt: skip
    VJEPA2Model(config).save_pretrained(folder)
    return f"transformers:{folder}"


def test_a_checkpoint_gives_a_square_map_and_what_it_says_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    for number, (make, width) in enumerate(((dino, 8), (dino3, 8), (vjepa, 24))):
        features = open_features(make(tmp_path / str(number)))
        with torch.no_grad():
            together = features(pictures)
            assert together.shape == (3, width, 4, 4)
            assert torch.allclose(features(pictures[1:2])[0], together[1], atol=1e-5)


def test_a_model_of_frozen_features_sees_and_predicts_them(tmp_path: Path) -> None:
    name = dino(tmp_path / "dino")
    lam = Lam().changed({"side": 32, "family": "token", "width": 16, "heads": 2, "layers": "[1, 1, 1]", "dim": 3, "target": name})
    model = build(lam)
    pictures = torch.rand(4, 3, 32, 32)
    encoded, which = model.encode(pictures), torch.zeros(2, dtype=torch.int64)
    latent = model.infer(encoded[:2], encoded[2:], which)
    told = model.predict(model.target(pictures[:2]), latent.value, which)
    assert told.later.shape == (2, 8, 4, 4)
    even = model.target(pictures).movedim(1, -1)
    assert even.mean(-1).abs().max().item() < 1e-5
    assert not any("features" in key for key in model.state_dict())
    checkpoint.save(tmp_path / "lam", lam, model.state_dict())
    before = checkpoint.hash_checkpoint(tmp_path / "lam")
    dino(tmp_path / "dino", seed=1)
    assert checkpoint.hash_checkpoint(tmp_path / "lam") != before


def test_functions_of_pictures_are_features_and_what_is_none_is_told() -> None:
    pictures = torch.arange(3 * 16 * 16, dtype=torch.float32).view(1, 3, 16, 16) / 768
    found = open_features("tests.support.latent_features:means")(pictures)
    assert np.allclose(found[0, 1], pictures[0, 1].unfold(0, 2, 2).unfold(1, 2, 2).mean((2, 3)))
    assert features_weights("tests.support.latent_features:means")
    with pytest.raises(UsageError, match=r"return \[B, N, D\]"):
        open_features("tests.support.latent_features:flat")(pictures)
    for wrong in (
        "tests.support.latent_features:number",
        "nowhere:means",
        "tests.support.latent_features:absent",
        "transformers:/no",
    ):
        with pytest.raises(UsageError):
            open_features(wrong)
    assert torch.equal(as_map(found), found)
