"""Features of a frozen model, as the space in which latent actions are learnt: any torch callable, or a local transformers checkpoint.

`module:function` names a function that is called with RGB pictures float32[B, 3, H, W] in 0..1, on the device the model runs on, and
returns [B, N, D] (or [B, D, h, w]); where it has the attribute `weights`, a path or several, their content is in the fingerprint.
`transformers:FOLDER` is a checkpoint of DINOv2, DINOv3, V-JEPA 2 or another picture or video encoder; nothing is ever downloaded. Imported
where it is used: everything here is torch.
"""

import json
import math
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from annotators.weights import hash_weights
from schemas.errors import UsageError

TRANSFORMERS = "transformers:"
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for checkpoints that do not say


def open_features(name: str, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Return a function of pictures float32[B, 3, H, W] in 0..1 that gives square maps float32[B, D, g, g].

    Raises:
        UsageError: there is no such function or checkpoint.
    """
    if name.startswith(TRANSFORMERS):
        model, size, mean, spread = _checkpoint(_folder(name), device)
        return lambda pictures: as_map(_asked(model, pictures, size, mean, spread))
    function = _function(name)
    return lambda pictures: as_map(function(pictures))


def features_weights(name: str) -> tuple[str, ...]:
    """Return what identifies frozen features beside their name: hashes of the checkpoint, or of the function's module and weights."""
    if name.startswith(TRANSFORMERS):
        return hash_weights(_folder(name))
    own = getattr(_function(name), "weights", ())
    spec = find_spec(name.partition(":")[0])
    code = hash_weights(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else ()
    return (*code, *hash_weights(*((own,) if isinstance(own, (str, Path)) else own)))


def as_map(features: Tensor) -> Tensor:
    """Lay features out as a square map [B, D, g, g]; tokens before the last g * g (classes, registers) are left out.

    Raises:
        UsageError: they are neither tokens nor a square map.
    """
    if features.ndim == 3:
        side = math.isqrt(features.shape[1])
        return features[:, features.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side)).float()
    if features.ndim == 4 and features.shape[2] == features.shape[3]:
        return features.float()
    raise UsageError(f"frozen features of shape {tuple(features.shape)}: return [B, N, D] tokens or a square map [B, D, g, g]")


def _function(name: str) -> Callable[[Tensor], Tensor]:
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"target {name!r}: {error}; use pixels, ema, module:function or transformers:FOLDER") from error
    if not callable(found):
        raise UsageError(f"target {name!r} is a {type(found).__name__}, not a function of pictures")
    return cast("Callable[[Tensor], Tensor]", found)


def _folder(name: str) -> str:
    folder = Path(name.removeprefix(TRANSFORMERS)).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} is no checkpoint folder: it holds no config.json")
    return str(folder)


def _asked(model: Any, pictures: Tensor, size: int | None, mean: Tensor, spread: Tensor) -> Tensor:
    """Return the last hidden state, [B, N, D]. A video model is shown each picture for as many frames as it takes at once."""
    if size is not None and pictures.shape[2] != size:
        pictures = torch.nn.functional.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
    given = (pictures - mean) / spread
    if model.main_input_name == "pixel_values_videos":
        frames = int(model.config.tubelet_size)
        return model(pixel_values_videos=given[:, None].expand(-1, frames, -1, -1, -1), skip_predictor=True).last_hidden_state
    return model(pixel_values=given).last_hidden_state


@lru_cache(maxsize=2)
def _checkpoint(folder: str, device: str) -> tuple[Any, int | None, Tensor, Tensor]:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True).to(device).eval().requires_grad_(False)
    told = {}
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (file := Path(folder) / name).is_file():
            told = json.loads(file.read_text())
            break
    size = getattr(model.config, "image_size", None) or getattr(model.config, "crop_size", None)
    mean, spread = (
        torch.tensor(told.get(k, v), device=device).view(3, 1, 1) for k, v in (("image_mean", MEAN), ("image_std", SPREAD))
    )
    return model, size, mean, spread
