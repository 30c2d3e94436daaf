"""Asks a trained model about clips: every picture goes through the encoder once, every pair through the rest. Imported where it is used: torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from annotators.latent.augment import as_pictures
from annotators.latent.config import PIXELS
from annotators.latent.losses import changed
from annotators.latent.model import LatentActionModel
from transforms.grid import I64

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
FEATURES_CHANGE = 0.5  # of the spread of features, where no pixels are predicted


@dataclass(frozen=True, slots=True)
class Latents:
    """What a model says of pairs.

    Attributes:
        value: float32[P, n, d], before any choice of a code.
        logvar: float32[P, n, d]; None where there is none.
        code: int16[P, n] of a discrete model; None of a continuous one.
        distance: float32[P, n] to the code chosen; None of a continuous one.
        recon: float32[P], error of the predicted later map where the maps differ, NaN where they do not differ or nobody asked.
        copy: float32[P], the same error of the earlier map.
    """

    value: F32
    logvar: F32 | None
    code: npt.NDArray[np.int16] | None
    distance: F32 | None
    recon: F32
    copy: F32

    @property
    def gain(self) -> F32:
        """How much of the change the latent explains: 1 all, 0 no more than nothing at all, NaN where nothing changes."""
        return (1 - self.recon / np.where(self.copy > 0, self.copy, np.nan)).astype(np.float32)


def ask(
    model: LatentActionModel,
    pictures: U8,
    first: I64,
    second: I64,
    horizon: I64,
    at_once: int,
    device: str = "cpu",
    above: float = 0.08,
    *,
    judge: bool = True,
) -> Latents:
    """Return the latents of pairs of pictures.

    Args:
        model: trained.
        pictures: RGB uint8[F, S, S, 3], squares of the model's side.
        first: int64[P], the earlier picture of each pair, never before an earlier pair's.
        second: int64[P], the later one, not before it.
        horizon: int64[P], which of the model's horizons lies between.
        at_once: pictures or pairs given to the model at once.
        device: where it runs.
        above: pixels that change by more than this (of 1) are judged.
        judge: whether to decode, and to say what the latent explains.
    """
    model, parts = model.to(device), list[tuple[Tensor, ...]]()
    with torch.inference_mode():
        seen = _Seen(model, pictures, at_once, device)
        for start in range(0, len(first), at_once):
            rows = slice(start, start + at_once)
            a, b = seen.take(first[rows], second[rows])
            h = torch.from_numpy(horizon[rows]).to(device)
            latent = model.infer(a, b, h)
            errors = _errors(model, pictures[first[rows]], pictures[second[rows]], latent.value, h, above) if judge else ()
            found = [latent.mean, latent.logvar, latent.code, latent.distance, *errors]
            parts.append(tuple(torch.empty(0) if f is None else f.float().cpu() for f in found))
    return _joined(model, parts, judge, len(first))


class _Seen:
    """What the encoder says of the pictures that pairs still need: each is encoded once, and forgotten when no later pair needs it."""

    def __init__(self, model: LatentActionModel, pictures: U8, at_once: int, device: str) -> None:
        self.model, self.pictures, self.at_once, self.device = model, pictures, at_once, device
        self.start = self.stop = 0
        self.held: Tensor | None = None

    def take(self, first: I64, second: I64) -> tuple[Tensor, Tensor]:
        """Return what is said of some pairs' pictures; no later call asks for one before the earliest of these `first`."""
        low, high = int(first.min()), int(max(first.max(), second.max())) + 1
        kept = [] if self.held is None else [self.held[max(low - self.start, 0) :]]
        begin = max(self.stop, low)
        for at in range(begin, high, self.at_once):
            stored = torch.from_numpy(self.pictures[at : min(at + self.at_once, high)]).to(self.device)
            kept.append(self.model.encode(as_pictures(stored)))
        self.start, self.stop = max(low, self.start), max(high, self.stop)
        self.held = torch.cat(kept) if len(kept) > 1 else kept[0]
        a, b = (torch.from_numpy(x - self.start).to(self.device) for x in (first, second))
        return self.held[a], self.held[b]


def _errors(
    model: LatentActionModel, first: U8, second: U8, value: Tensor, horizon: Tensor, above: float
) -> tuple[Tensor, Tensor]:
    pictures = [as_pictures(torch.from_numpy(p).to(horizon.device)) for p in (first, second)]
    base, true = (model.target(p).float() for p in pictures)
    later = model.predict(base, value, horizon).later.float()
    mask = changed(base, true, above if model.config.target == PIXELS else FEATURES_CHANGE).float()
    count = mask.sum((1, 2, 3))
    recon, copy = ((((x - true).abs().mean(1, keepdim=True)) * mask).sum((1, 2, 3)) / count for x in (later, base))
    return recon, copy


def _joined(model: LatentActionModel, parts: Sequence[tuple[Tensor, ...]], judge: bool, count: int) -> Latents:
    shape = (count, model.config.tokens)
    columns = (
        [torch.cat(c).numpy() for c in zip(*parts, strict=True)] if parts else [np.empty(0, np.float32)] * (6 if judge else 4)
    )
    value = columns[0].reshape(*shape, model.config.dim)
    logvar = columns[1].reshape(value.shape) if model.config.bottleneck == "noise" else None
    code, distance = (c.reshape(shape) for c in columns[2:4]) if model.config.discrete else (None, None)
    nothing = np.full(count, np.nan, np.float32)
    recon, copy = columns[4:6] if judge else (nothing, nothing)
    return Latents(value, logvar, None if code is None else code.astype(np.int16), distance, recon, copy)
