"""A model on disk: a folder with `config.json`, `lam.safetensors` and, where codes were fitted, `codes.safetensors`. Nothing is pickled."""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annotators.latent.config import Lam
from annotators.weights import hash_weights, load_weights
from schemas.errors import UsageError

if TYPE_CHECKING:
    from annotators.latent.model import LatentActionModel

CONFIG, WEIGHTS, CODES = "config.json", "lam.safetensors", "codes.safetensors"


def save(
    folder: Path,
    lam: Lam,
    tensors: dict[str, Any],
    books: npt.NDArray[np.float32] | None = None,
    told: Mapping[str, Any] | None = None,
) -> None:
    """Write a trained model; every file appears whole or not at all.

    Args:
        folder: made where it does not exist.
        lam: what the model is and how it was trained.
        tensors: its state.
        books: codes fitted to its latents, float32[levels, codes, D].
        told: what else `config.json` says.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, json.dumps(lam.document() | dict(told or {}), indent=1, sort_keys=True) + "\n")
    if books is not None:
        write_tensors(folder / CODES, {"books": torch.from_numpy(books)})
    write_tensors(folder / WEIGHTS, {k: v.detach().cpu().contiguous() for k, v in tensors.items()})  # last: now it is trained


def read_lam(folder: str | Path) -> Lam:
    """Return what a checkpoint says of itself.

    Raises:
        UsageError: the folder holds no latent action model.
    """
    file = Path(folder).expanduser() / CONFIG
    try:
        return Lam.read(json.loads(file.read_text()), str(file))
    except OSError as error:
        raise UsageError(f"{folder} holds no {CONFIG}; name the folder that `cotrain train-lam` wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def hash_checkpoint(folder: str | Path) -> tuple[str, ...]:
    """Return what identifies a checkpoint: the content of its files, and of the frozen features it was trained on.

    Raises:
        UsageError: a file is missing.
    """
    root, lam = Path(folder).expanduser(), read_lam(folder)
    if not (root / WEIGHTS).is_file():
        raise UsageError(f"{folder} holds no {WEIGHTS} yet; run the same `cotrain train-lam` again until it is trained")
    found = hash_weights(root / CONFIG, root / WEIGHTS, *(f for f in [root / CODES] if f.is_file()))
    if lam.model.frozen:
        from annotators.latent.features import features_weights

        found = (*found, *features_weights(lam.model.target))
    return found


def load(folder: str | Path, device: str = "cpu") -> "LatentActionModel":
    """Return the model of a checkpoint, ready to be asked. An unchanged one is read once per process.

    Raises:
        UsageError: the folder holds something else.
    """
    return _loaded(str(Path(folder).expanduser()), hash_checkpoint(folder), device)


def load_books(folder: str | Path) -> npt.NDArray[np.float32] | None:
    """Return codes fitted to the latents of a continuous model, float32[levels, codes, D]; None where there are none."""
    file = Path(folder).expanduser() / CODES
    return load_weights(file)["books"].numpy() if file.is_file() else None


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write tensors as safetensors in one step: a reader sees the old file or the new one."""
    from safetensors.torch import save_file

    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, str(fresh))
    fresh.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file in one step."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


@lru_cache(maxsize=4)
def _loaded(folder: str, _content: tuple[str, ...], device: str) -> "LatentActionModel":
    from annotators.latent.model import build

    lam, file = read_lam(folder), Path(folder) / WEIGHTS
    model, tensors = build(lam, device), load_weights(file)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(f"{file} does not fit its {CONFIG}: {error}") from error
    return model.eval()
