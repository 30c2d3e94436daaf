"""LeRobot policies built tiny from their configurations, offline: nothing is patched but where frozen weights would be downloaded."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch


def word_tokenizer(folder: Path, words: str, special: tuple[str, ...] = ("<pad>", "</s>", "<unk>"), **config: Any) -> Path:
    """Write a tokenizer that knows some words, the way `AutoTokenizer` reads one from a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*special, *words.split()]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", **config)
    folder.mkdir(parents=True, exist_ok=True)
    made.save_pretrained(str(folder))
    return folder


def perturb(module: torch.nn.Module, scale: float = 0.05, seed: int = 0) -> None:
    """Move every parameter a little: heads that start at zero would answer nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))


def tiny_vae() -> Any:
    """Wan's causal VAE with 16 times fewer pixels and 4 times fewer frames, in a few thousand weights."""
    from diffusers import AutoencoderKLWan
    from lerobot.policies.fastwam.wan.adapters import WanVideoVAE38

    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=48, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        is_residual=True, in_channels=12, out_channels=12, patch_size=2, scale_factor_temporal=4, scale_factor_spatial=16,
        latents_mean=[0.0] * 48, latents_std=[1.0] * 48,
    )  # fmt: skip
    return WanVideoVAE38(torch.float32, "cpu", pretrained=vae.eval())


def tiny_fastwam(
    monkey: pytest.MonkeyPatch,
    folder: Path,
    cameras: tuple[str, ...] = ("front",),
    state: int = 4,
    action: int = 4,
    **changes: Any,
) -> Any:
    """A `FastWAMPolicy` from a configuration, its VAE and text encoder tiny, too."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.fastwam import modeling_fastwam
    from lerobot.policies.fastwam.configuration_fastwam import FastWAMConfig, default_action_dit_config, default_video_dit_config
    from transformers import UMT5Config, UMT5EncoderModel

    words = word_tokenizer(
        folder / "tokenizer", "A video recorded from a robot ' s point of view executing the following instruction : task 0 1"
    )
    text = UMT5EncoderModel(UMT5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    text.save_pretrained(str(folder / "text" / "text_encoder"))
    vae = tiny_vae()
    monkey.setattr(modeling_fastwam, "load_pretrained_wan_vae", lambda **_: vae)
    small = {"num_layers": 2, "num_heads": 2, "attn_head_dim": 24, "text_dim": 16, "freq_dim": 32}
    size = (32, 32 * len(cameras))
    body: dict[str, Any] = {
        "action_dim": action, "proprio_dim": state, "action_horizon": 8, "n_action_steps": 8, "num_video_frames": 9,
        "action_video_freq_ratio": 1, "image_size": size, "tokenizer_model_id": str(words), "tokenizer_max_len": 24,
        "text_encoder_model_id": str(folder / "text"), "base_model_id": None, "torch_dtype": "float32", "device": "cpu",
        "video_dit_config": default_video_dit_config(action) | small | {"hidden_dim": 48, "ffn_dim": 64},
        "action_dit_config": default_action_dit_config(action) | small | {"hidden_dim": 32, "ffn_dim": 64},
        "input_features": {
            **{f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)) for c in cameras},
            "observation.state": PolicyFeature(FeatureType.STATE, (state,)),
        },
    }  # fmt: skip
    torch.manual_seed(0)
    policy = modeling_fastwam.FastWAMPolicy(FastWAMConfig(**(body | changes))).eval()
    perturb(policy)
    return policy


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what policies print while they are built."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def as_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
