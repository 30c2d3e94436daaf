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
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def as_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def features(cameras: tuple[str, ...] = ("front",), state: int = 4, action: int = 4, side: int = 32) -> dict[str, Any]:
    """Input and output features of a policy's configuration."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    pictures = {f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, (3, side, side)) for c in cameras}
    return {
        "input_features": {**pictures, "observation.state": PolicyFeature(FeatureType.STATE, (state,))},
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (action,))}, "device": "cpu",
    }  # fmt: skip


def tiny_smolvla(folder: Path, **changes: Any) -> Any:
    """A `SmolVLAPolicy` over a SmolVLM of two layers, whose checkpoint folder is written from its configuration."""
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
    from transformers import SmolVLMConfig

    special = ("<pad>", "</s>", "<unk>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    word_tokenizer(
        folder, "task 0 1", special, fake_image_token="<fake_token_around_image>", image_token="<image>",
        end_of_utterance_token="<end_of_utterance>", global_image_token="<global-img>",
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>", "image_token": "<image>", "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
    )  # fmt: skip
    text = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 32, "pad_token_id": 0, "attention_bias": False,
    }  # fmt: skip
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, image_token_id=4, pad_token_id=0)
    config.save_pretrained(str(folder))
    as_json(folder / "preprocessor_config.json", {"image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 32}})
    as_json(
        folder / "video_preprocessor_config.json", {"video_processor_type": "SmolVLMVideoProcessor", "size": {"longest_edge": 32}}
    )
    as_json(folder / "processor_config.json", {"processor_class": "SmolVLMProcessor", "image_seq_len": 4})
    body: dict[str, Any] = {
        "vlm_model_name": str(folder), "load_vlm_weights": False, "chunk_size": 4, "n_action_steps": 4, "max_action_dim": 8,
        "max_state_dim": 8, "num_vlm_layers": 2, "expert_width_multiplier": 0.5, "resize_imgs_with_padding": (32, 32),
        "tokenizer_max_length": 8, **features(),
    }  # fmt: skip
    torch.manual_seed(0)
    with quiet():
        return SmolVLAPolicy(SmolVLAConfig(**(body | changes))).eval()


def tiny_pi(monkey: pytest.MonkeyPatch, kind: str = "pi0") -> Any:
    """A `PI0Policy` or `PI05Policy`: its two sizes of Gemma are replaced by one of two layers, everything else is as released."""
    from importlib import import_module

    module = import_module(f"lerobot.policies.{kind}.modeling_{kind}")
    configuration = import_module(f"lerobot.policies.{kind}.configuration_{kind}")
    names = {"pi0": ("PI0Config", "PI0Policy"), "pi05": ("PI05Config", "PI05Policy")}[kind]
    monkey.setattr(module, "get_gemma_config", lambda _variant: module.GemmaConfig(32, 2, 64, 8, 1, 8))
    for name in ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM"):
        monkey.setattr(module, name, _small(getattr(module, name)))
    body = features() | {
        "chunk_size": 4, "n_action_steps": 4, "max_action_dim": 8, "max_state_dim": 8, "dtype": "float32", "image_resolution": (32, 32),
        "tokenizer_max_length": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    with quiet():
        return getattr(module, names[1])(getattr(configuration, names[0])(**body)).eval()


def _small(model: Any) -> Any:
    """A model's class, with vocabulary and vision tower of its configuration cut down first."""

    def build(config: Any) -> Any:
        for part in (config, getattr(config, "text_config", config)):
            part.vocab_size = 64
        vision = getattr(config, "vision_config", None)
        if vision is not None:
            vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, vision.num_attention_heads = 16, 32, 1, 2
            vision.patch_size, vision.projection_dim = 16, config.text_config.hidden_size
            config.image_token_index = config.image_token_id = 63
        return model(config=config)

    return build


def tiny_diffusion(**changes: Any) -> Any:
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

    body = features() | {
        "n_obs_steps": 2, "horizon": 8, "n_action_steps": 4, "down_dims": (16, 32), "num_train_timesteps": 20, "crop_shape": None,
        "use_group_norm": True, "pretrained_backbone_weights": None, "spatial_softmax_num_keypoints": 4, "diffusion_step_embed_dim": 16, "n_groups": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    return DiffusionPolicy(DiffusionConfig(**(body | changes))).eval()


def tiny_act(**changes: Any) -> Any:
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    body = features() | {
        "chunk_size": 4, "n_action_steps": 4, "dim_model": 16, "n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1,
        "n_decoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 4, "pretrained_backbone_weights": None,
    }  # fmt: skip
    torch.manual_seed(0)
    return ACTPolicy(ACTConfig(**(body | changes))).eval()


def tiny_dit(folder: Path, **changes: Any) -> Any:
    """A `MultiTaskDiTPolicy` over a CLIP of one layer, saved from its configuration."""
    from lerobot.policies.multi_task_dit.configuration_multi_task_dit import MultiTaskDiTConfig
    from lerobot.policies.multi_task_dit.modeling_multi_task_dit import MultiTaskDiTPolicy
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": 32, "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    with quiet():
        CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(str(folder / "clip_text"))
        CLIPVisionModel(CLIPVisionConfig(**small, image_size=32, patch_size=16)).save_pretrained(str(folder / "clip_vision"))
    body = features() | {
        "n_obs_steps": 2, "horizon": 8, "n_action_steps": 4, "objective": "flow_matching", "hidden_dim": 32, "num_layers": 1,
        "num_heads": 2, "timestep_embed_dim": 16, "vision_encoder_name": str(folder / "clip_vision"),
        "text_encoder_name": str(folder / "clip_text"), "image_crop_shape": None, "tokenizer_max_length": 8,
    }  # fmt: skip
    with quiet():
        policy = MultiTaskDiTPolicy(MultiTaskDiTConfig(**(body | changes))).eval()
    perturb(policy.noise_predictor)
    return policy


def fastwam_teacher(policy: Any, mean: float = 0.1, name: str = "fastwam") -> Any:
    """The mask teacher of a tiny FastWAM, behind LeRobot's own preprocessing with these statistics."""
    from lerobot.policies.fastwam.processor_fastwam import make_fastwam_pre_post_processors

    from pipelines.residuals.teachers.common import Policy
    from pipelines.residuals.teachers.fastwam import FastWAMTeacher

    sizes = {"action": policy.config.action_dim, "observation.state": policy.config.proprio_dim}
    stats = {k: {"mean": torch.full((n,), mean), "std": torch.full((n,), 2.0)} for k, n in sizes.items()}
    preprocess, _ = make_fastwam_pre_post_processors(policy.config, stats)
    return FastWAMTeacher(Policy(policy, preprocess, (policy.model.vae, policy.model.text_encoder)), name)
