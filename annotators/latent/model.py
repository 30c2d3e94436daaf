"""The latent action model: what changed between two pictures, through a narrow place, and the later picture from the earlier one and it.

One class for every variant; its configuration says which. Pictures are float32[B, 3, S, S] in 0..1. Imported where one is built.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from annotators.latent.bottlenecks import Codes, Latent, Noise, Sparse
from annotators.latent.config import EMA, PIXELS, Lam
from annotators.latent.features import open_features
from annotators.latent.networks import ConvDecoder, ConvEncoder, ConvPair, TokenDecoder, TokenEncoder, TokenPair
from schemas.errors import UsageError

FLOW_SHARE = 8.0  # one of the decoder's units of flow is this part of the side


@dataclass(frozen=True, slots=True)
class Told:
    """What the decoder says.

    Attributes:
        later: [B, C, H, W], the later picture or its features.
        flow: float32[B, 2, H, W], where each place of it was before, in cells of the map, horizontal first; None where nothing is carried.
    """

    later: Tensor
    flow: Tensor | None


class LatentActionModel(nn.Module):
    """See the module's text.

    Attributes:
        encoded: how many pictures went through the encoder so far.
    """

    def __init__(self, lam: Lam, device: str = "cpu") -> None:
        super().__init__()
        config = self.config = lam.model
        self.encoded = 0
        self.features: Any = open_features(config.target, device) if config.frozen else None
        channels, side = self._seen(device)
        self.encoder, self.pair = _encoder(lam, channels, side)
        self.bottleneck = _bottleneck(lam)
        self.heads = len(config.horizons_s)
        latent = config.tokens * config.dim + self.heads
        self.slow: nn.Module | None = None
        if config.target == EMA:
            self.slow = copy.deepcopy(self.encoder).requires_grad_(False)
            channels, side = (2 * config.width, side // 4) if config.family == "conv" else (config.width, side // config.patch)
        self.decoder = _decoder(lam, channels, side, latent, channels + 3 * config.carry)

    def view(self, pictures: Tensor) -> Tensor:
        """Return what the encoder is given of pictures: themselves around zero, or a frozen model's features."""
        if self.features is None:
            return pictures * 2 - 1
        with torch.no_grad():
            return self.features(pictures)

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures one by one; what comes out is for `infer`."""
        self.encoded += len(pictures)
        return self.encoder(self.view(pictures))

    def infer(self, first: Tensor, second: Tensor, horizon: Tensor, noise: Tensor | None = None) -> Latent:
        """Return the latents of encoded pairs.

        Args:
            first: what `encode` said of the earlier pictures.
            second: of the later ones.
            horizon: int64[B], which of the configured horizons lies between.
            noise: Gaussian float32[B, n, d] in training; None gives the latent itself.
        """
        told = self.pair(first, second).unflatten(1, (self.heads, -1))
        own = told[torch.arange(len(told), device=told.device), horizon]
        with torch.autocast(own.device.type, enabled=False):
            return self.bottleneck(own.float(), noise)

    def target(self, pictures: Tensor) -> Tensor:
        """Return the maps that are predicted and predicted from, [B, C, H, W]: pixels, or features without a gradient."""
        if self.config.target == PIXELS:
            return pictures
        with torch.no_grad():
            if self.slow is None:
                return _even(self.features(pictures))
            seen = self.slow(self.view(pictures)).float()
            return _even(seen if seen.ndim == 4 else _square(seen))

    def predict(self, base: Tensor, latent: Tensor, horizon: Tensor) -> Told:
        """Return the later map as a change of the earlier one.

        Args:
            base: what `target` said of the earlier pictures.
            latent: [B, n, d].
            horizon: int64[B].
        """
        which = functional.one_hot(horizon, self.heads).to(latent.dtype)
        given = base * 2 - 1 if self.config.target == PIXELS else base
        said = self.decoder(given, torch.cat([latent.flatten(1), which], 1)).float()
        if not self.config.carry:
            return Told(base + said, None)
        flow = said[:, :2] * (base.shape[2] / FLOW_SHARE)
        return Told(carried(base, flow) + said[:, 3:] * torch.sigmoid(said[:, 2:3]), flow)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the slow copy towards the encoder."""
        if self.slow is not None:
            for mine, theirs in zip(self.slow.parameters(), self.encoder.parameters(), strict=True):
                mine.lerp_(theirs, 1 - momentum)

    def _seen(self, device: str) -> tuple[int, int]:
        """Return channels and side of what the encoder is given."""
        if self.features is None:
            return 3, self.config.side
        if self.config.family != "token":
            raise UsageError("features of a frozen model need family=token")
        with torch.no_grad():
            shape = self.features(torch.zeros(1, 3, self.config.side, self.config.side, device=device)).shape
        return shape[1], shape[2]


def build(lam: Lam, device: str = "cpu") -> LatentActionModel:
    """Return an untrained model; its weights come from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lam.training.seed)
        return LatentActionModel(lam, device).to(device)


def carried(maps: Tensor, flow: Tensor) -> Tensor:
    """Return maps [B, C, H, W] whose every place shows what was `flow` cells away, float32[B, 2, H, W]; borders go on outside."""
    height, width = maps.shape[2:]
    y, x = torch.meshgrid(torch.arange(height, device=maps.device), torch.arange(width, device=maps.device), indexing="ij")
    across = (x + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    along = (y + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    return functional.grid_sample(maps, torch.stack([across, along], -1), padding_mode="border", align_corners=True)


def _encoder(lam: Lam, channels: int, side: int) -> tuple[nn.Module, nn.Module]:
    config = lam.model
    answers, each = len(config.horizons_s), config.dim * (2 if config.bottleneck == "noise" else 1)
    if config.family == "conv":
        return ConvEncoder(channels, config.width), ConvPair(config.width, side // 4, answers * config.tokens * each)
    patch = 1 if config.frozen else config.patch
    encoder = TokenEncoder(channels, side, patch, config.width, config.layers[0], config.heads)
    return encoder, TokenPair(config.width, config.layers[1], config.heads, config.tokens, answers, each)


def _decoder(lam: Lam, channels: int, side: int, latent: int, out: int) -> nn.Module:
    config = lam.model
    if config.family == "conv":
        return ConvDecoder(channels, config.width, side, latent, out)
    patch = config.patch if config.target == PIXELS else 1
    return TokenDecoder(channels, side, patch, config.width, config.layers[2], config.heads, latent, config.tokens, out)


def _bottleneck(lam: Lam) -> nn.Module:
    config = lam.model
    if config.bottleneck == "noise":
        return Noise(config.tokens, config.dim)
    if config.bottleneck == "sparse":
        return Sparse(config.tokens, config.dim, lam.training.l1)
    return Codes(config.tokens, config.dim, config.codes, config.bottleneck)


def _square(tokens: Tensor) -> Tensor:
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _even(maps: Tensor) -> Tensor:
    """Bring the features of every cell to mean 0 and variance 1, so that no scale of a network decides what counts."""
    return functional.layer_norm(maps.movedim(1, -1).float(), maps.shape[1:2]).movedim(-1, 1)
