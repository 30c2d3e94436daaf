"""Encoders: pictures or texts to vectors of unit length. Built-in ones need no weights; others are yours.

Names an encoder goes by: `default` (colour frequencies for pictures, hashed character n-grams for texts: two spaces that are never
compared with each other), `transformers:FOLDER` (a local checkpoint of Hugging Face transformers: CLIP and SigLIP for both, DINO and
others for pictures), `module:function` (a callable that returns an object with `pictures` and/or `texts`,
and `joint = True` where the two may be compared).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from annotators.weights import hash_weights
from schemas.errors import UsageError
from transforms.embedding import NAME as COLOUR
from transforms.embedding import embed

F32 = npt.NDArray[np.float32]
RGB = npt.NDArray[np.uint8]
GRAMS = 384  # dimensions of the built-in text embedding
TRANSFORMERS = "transformers:"


@runtime_checkable
class SeesPictures(Protocol):
    """Encodes pictures."""

    def pictures(self, pictures: RGB, device: str) -> F32:
        """Return float32[n, D] for RGB uint8[n, H, W, 3]."""
        ...


@runtime_checkable
class ReadsTexts(Protocol):
    """Encodes texts."""

    def texts(self, texts: Sequence[str], device: str) -> F32:
        """Return float32[n, D]."""
        ...


@dataclass(frozen=True, slots=True)
class Default:
    """No weights; see the module's text."""

    def pictures(self, pictures: RGB, device: str) -> F32:  # noqa: ARG002  # it has nothing to run there
        """Return colour frequencies, float32[n, 108]."""
        return embed(pictures)

    def texts(self, texts: Sequence[str], device: str) -> F32:  # noqa: ARG002
        """Return hashed character 3- to 5-grams of words, float32[n, 384] of unit length."""
        from sklearn.feature_extraction.text import HashingVectorizer

        grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=GRAMS, norm="l2", lowercase=True)
        return np.asarray(grams.transform(list(texts)).todense(), np.float32)


@dataclass(frozen=True)
class Checkpoint:
    """A local checkpoint of Hugging Face transformers; nothing is ever downloaded."""

    folder: str
    joint: ClassVar[bool] = True  # pictures and texts lie in one space

    def pictures(self, pictures: RGB, device: str) -> F32:
        """Return image features: those a contrastive model compares with texts, else the first token of the last layer."""
        import torch

        model, processor = _loaded(self.folder, device)
        given = processor(images=list(pictures), return_tensors="pt").to(device)
        with torch.inference_mode():
            found = model.get_image_features(**given) if hasattr(model, "get_image_features") else model(**given)
        return unit(_vector(found))

    def texts(self, texts: Sequence[str], device: str) -> F32:
        """Return text features in the pictures' space.

        Raises:
            UsageError: the checkpoint has no text side.
        """
        import torch

        model, processor = _loaded(self.folder, device)
        if not hasattr(model, "get_text_features"):
            raise UsageError(f"{self.folder} holds a model of pictures only; texts need a contrastive one such as CLIP")
        given = processor(text=list(texts), return_tensors="pt", padding=True, truncation=True).to(device)
        with torch.inference_mode():
            return unit(_vector(model.get_text_features(**given)))


def open_encoder(name: str) -> Any:
    """Return the encoder called `name`; it has `pictures`, `texts` or both.

    Raises:
        UsageError: there is none, or it has neither.
    """
    if name == "default":
        return Default()
    if name.startswith(TRANSFORMERS):
        folder = name.removeprefix(TRANSFORMERS)
        if not (Path(folder).expanduser() / "config.json").is_file():
            raise UsageError(f"{folder} is no checkpoint folder: it holds no config.json")
        return Checkpoint(str(Path(folder).expanduser()))
    encoder = _called(name)
    if not isinstance(encoder, (SeesPictures, ReadsTexts)):
        raise UsageError(f"{name} returned a {type(encoder).__name__} with neither `pictures` nor `texts`")
    return encoder


def encoder_weights(name: str) -> tuple[str, ...]:
    """Return what identifies an encoder beside its name: hashes of its files, or of the module that makes it."""
    if name == "default":
        return (COLOUR, f"char-3-5-{GRAMS}")
    if name.startswith(TRANSFORMERS):
        return hash_weights(name.removeprefix(TRANSFORMERS))
    from importlib.util import find_spec

    own = getattr(open_encoder(name), "weights", ())
    spec = find_spec(name.partition(":")[0])
    code = hash_weights(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else ()
    return (*code, *hash_weights(*own))


def unit(vectors: F32) -> F32:
    """Scale rows to unit length; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def _called(name: str) -> Any:
    from importlib import import_module

    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"encoder {name!r}: {error}; use default, transformers:FOLDER or module:function") from error


def _vector(found: Any) -> F32:
    for field in ("image_embeds", "text_embeds", "pooler_output"):
        if getattr(found, field, None) is not None:
            return getattr(found, field).float().cpu().numpy()
    hidden = found if not hasattr(found, "last_hidden_state") else found.last_hidden_state[:, 0]
    return hidden.float().cpu().numpy()


@lru_cache(maxsize=2)
def _loaded(folder: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained(folder, local_files_only=True).to(device).eval()
    return model, AutoProcessor.from_pretrained(folder, local_files_only=True)
