"""The parts of a latent action model: encoders of one picture, heads over two, decoders of the later one. Imported where one is built.

Two families. `Conv...` have some hundred thousand numbers, and a CPU trains them in a minute. `Token...` are transformers over patches of
pixels or over features of a frozen model. What encodes sees one picture at a time, so that every picture of a clip is encoded once.
Pictures and features are maps [B, C, H, W] throughout.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

CELLS = 4  # side of the smallest map of the convolutional networks


def halvings(side: int) -> int:
    """Return how often a map of this side is halved until it is `CELLS` wide."""
    return max(round(math.log2(side / CELLS)), 0)


def down(channels: int, to: int) -> nn.Module:
    """Halve a map's side."""
    return nn.Sequential(nn.Conv2d(channels, to, 4, 2, 1), nn.GELU())


class ConvEncoder(nn.Module):
    """A map [B, C, S, S] to one of a quarter of its side, [B, 2 width, S / 4, S / 4]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(down(channels, width), down(width, 2 * width))

    def forward(self, maps: Tensor) -> Tensor:
        """Encode maps."""
        return self.layers(maps)


class ConvPair(nn.Module):
    """Two encoded maps of side s to a vector [B, D]: both and their difference, halved to a few cells and read in one go."""

    def __init__(self, width: int, side: int, out: int) -> None:
        super().__init__()
        times = halvings(side)
        cells = (side >> times) ** 2
        self.layers = nn.Sequential(
            nn.Conv2d(6 * width, 2 * width, 1), nn.GELU(), *(down(2 * width, 2 * width) for _ in range(times)),
            nn.Flatten(), nn.Linear(2 * width * cells, 4 * width), nn.GELU(), nn.Linear(4 * width, out),
        )  # fmt: skip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return one vector per pair."""
        return self.layers(torch.cat([first, second, second - first], 1))


class Modulation(nn.Module):
    """Scale and shift a map's channels by what is told (Perez and others, *FiLM*, 2018)."""

    def __init__(self, told: int, channels: int) -> None:
        super().__init__()
        self.says = nn.Linear(told, 2 * channels)

    def forward(self, maps: Tensor, told: Tensor) -> Tensor:
        """Return the maps changed."""
        scale, shift = self.says(told)[:, :, None, None].chunk(2, 1)
        return maps * (1 + scale) + shift


class ConvDecoder(nn.Module):
    """The earlier map and a latent to what is added to it, [B, out, S, S].

    The latent only scales and shifts channels, at every resolution: it can say how something moves, not which pixel to paint.
    """

    def __init__(self, channels: int, width: int, side: int, latent: int, out: int) -> None:
        super().__init__()
        sizes = [width * min(2**k, 2) for k in range(max(halvings(side), 1))]
        told = 4 * width
        self.told = nn.Sequential(nn.Linear(latent, told), nn.GELU(), nn.Linear(told, told), nn.GELU())
        self.down = nn.ModuleList(down(a, b) for a, b in zip([channels, *sizes], sizes, strict=False))
        self.middle = nn.Sequential(nn.Conv2d(sizes[-1], sizes[-1], 3, 1, 1), nn.GELU())
        self.films = nn.ModuleList(Modulation(told, s) for s in reversed(sizes))
        below = [*sizes[-2::-1], width]
        inputs = [sizes[-1], *(2 * s for s in sizes[-2::-1])]
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.GELU()) for i, o in zip(inputs, below, strict=True)
        )
        self.out = nn.Conv2d(width + channels, out, 3, 1, 1)

    def forward(self, maps: Tensor, latent: Tensor) -> Tensor:
        """Return what is added to the maps."""
        told, seen = self.told(latent), [maps]
        for layer in self.down:
            seen.append(layer(seen[-1]))
        x = self.films[0](seen[-1], told)
        x = self.up[0](x + self.middle(x))
        for film, layer, same in zip(self.films[1:], self.up[1:], seen[-2:0:-1], strict=True):
            x = layer(torch.cat([film(x, told), same], 1))
        return self.out(torch.cat([x, maps], 1))


class TokenEncoder(nn.Module):
    """A map to tokens [B, N, width]: patches, where they are, and attention among them."""

    def __init__(self, channels: int, side: int, patch: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.register_buffer("place", places(side // patch, width), persistent=False)
        self.blocks = blocks(width, layers, heads)

    def forward(self, maps: Tensor) -> Tensor:
        """Return tokens."""
        return self.blocks(self.patches(maps).flatten(2).transpose(1, 2) + self.place)


class TokenPair(nn.Module):
    """Tokens of two pictures to a vector [B, answers * tokens * k]: one question per token of the latent attends to both."""

    def __init__(self, width: int, layers: int, heads: int, tokens: int, answers: int, k: int) -> None:
        super().__init__()
        self.questions = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.which = nn.Parameter(torch.randn(2, 1, width) * 0.02)
        self.blocks = blocks(width, layers, heads)
        self.out = nn.Linear(width, answers * k)
        self.tokens, self.answers = tokens, answers

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return one vector per pair."""
        asked = self.questions.expand(len(first), -1, -1)
        told = self.blocks(torch.cat([asked, first + self.which[0], second + self.which[1]], 1))
        return self.out(told[:, : self.tokens]).unflatten(2, (self.answers, -1)).transpose(1, 2).flatten(1)


class TokenDecoder(nn.Module):
    """The earlier map and a latent to what is added to it: patches that attend to each other and to the latent's tokens."""

    def __init__(
        self, channels: int, side: int, patch: int, width: int, layers: int, heads: int, latent: int, tokens: int, out: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.register_buffer("place", places(side // patch, width), persistent=False)
        self.told = nn.Linear(latent, tokens * width)
        self.blocks = blocks(width, layers, heads)
        self.out = nn.Linear(width, out * patch * patch)
        self.fold = nn.PixelShuffle(patch)
        self.tokens, self.grid = tokens, side // patch

    def forward(self, maps: Tensor, latent: Tensor) -> Tensor:
        """Return what is added to the maps."""
        told = self.told(latent).view(len(maps), self.tokens, -1)
        seen = self.patches(maps).flatten(2).transpose(1, 2) + self.place
        x = self.blocks(torch.cat([told, seen + told.mean(1, keepdim=True)], 1))[:, self.tokens :]
        return self.fold(self.out(x).transpose(1, 2).unflatten(2, (self.grid, self.grid)))


def blocks(width: int, layers: int, heads: int) -> nn.Module:
    """Return transformer layers that normalise first, with the normalisation at their end."""
    layer: Any = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)


def places(side: int, width: int) -> Tensor:
    """Return sines and cosines of where each cell of a square is, float32[1, side * side, width]; width a multiple of 4."""
    rates = torch.exp(torch.arange(width // 4) * (-math.log(10_000.0) / (width // 4)))
    angles = torch.arange(side)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = one[:, None].expand(side, side, -1), one[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).reshape(1, side * side, width)
