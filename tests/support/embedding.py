"""Encoders to embed with: one of our own, and tiny checkpoints made from configurations."""

from pathlib import Path
from typing import Any

import numpy as np


class Brightness:
    """Mean colour; no texts."""

    def pictures(self, pictures: Any, device: str) -> np.ndarray:
        mean = pictures.reshape(len(pictures), -1, 3).mean(axis=1)
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def nothing() -> object:
    """Make something that encodes nothing."""
    return object()


def clip_checkpoint(folder: Path) -> Path:
    """Write a random CLIP of a few thousand weights, with a tokenizer of single words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["[pad]", "[unk]", "a", "cup", "drawer", "[end]"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[pad]", unk_token="[unk]", eos_token="[end]")
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**size, "vocab_size": len(words), "max_position_embeddings": 8, "eos_token_id": 5, "pad_token_id": 0, "bos_token_id": 0},
        vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=8,
    )  # fmt: skip
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(processor, fast).save_pretrained(folder)
    return folder


def dino_checkpoint(folder: Path) -> Path:
    """Write a random DINOv2 of a few thousand weights."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder
