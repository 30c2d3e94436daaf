"""The network behind predicted gaze. Imported where one is built."""

import math

import torch
from torch import Tensor, nn


def stage(channels: int, to: int) -> nn.Sequential:
    """Halve a map's side."""
    return nn.Sequential(
        nn.Conv2d(channels, to, 3, 2, 1), nn.GroupNorm(math.gcd(8, to), to), nn.GELU(), nn.Conv2d(to, to, 3, 1, 1), nn.GELU()
    )


class GazeNet(nn.Module):
    """Pictures [B, frames, 3, S, S] to a map [B, grid, grid] that is added to the prior's logarithm."""

    prior: Tensor

    def __init__(self, grid: int, side: int, frames: int, width: int, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.side, self.dim = side, dim  # of the deepest map, and channels of its places in the transformer
        self.stages = nn.ModuleList(stage(a, b) for a, b in ((3, width), *((width * n, 2 * width * n) for n in (1, 2, 4))))
        self.into = nn.Linear(8 * width, dim)
        self.where = nn.Parameter(torch.randn(side * side, dim) * 0.02)
        self.when = nn.Parameter(torch.randn(frames, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
        self.mix = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.up = nn.ModuleList([nn.Conv2d(dim + 4 * width, 4 * width, 3, 1, 1), nn.Conv2d(6 * width, 2 * width, 3, 1, 1)])
        self.out = nn.Conv2d(2 * width, 1, 1)
        self.register_buffer("prior", torch.zeros(grid, grid))

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what each picture alone tells: maps of a quarter, an eighth and a sixteenth of the side of [P, 3, S, S]."""
        fine = self.stages[1](self.stages[0](pictures))
        middle = self.stages[2](fine)
        return fine, middle, self.stages[3](middle)

    def tokens(self, deep: Tensor) -> Tensor:
        """Return [P, places, dim] of the deepest map."""
        return self.into(deep.flatten(2).transpose(1, 2)) + self.where

    def decode(self, tokens: Tensor, fine: Tensor, middle: Tensor) -> Tensor:
        """Return what is added to the prior's logarithm, [B, grid, grid].

        Args:
            tokens: [B, frames, places, dim], the present picture last.
            fine: of the present picture.
            middle: of the present picture.
        """
        mixed = self.mix((tokens + self.when[:, None]).flatten(1, 2))[:, -(self.side**2) :]
        x = mixed.transpose(1, 2).reshape(len(tokens), self.dim, self.side, self.side)
        for conv, skip in zip(self.up, (middle, fine), strict=True):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = nn.functional.gelu(conv(torch.cat([x, skip], 1)))
        return self.out(x)[:, 0]

    def forward(self, windows: Tensor) -> Tensor:
        """Return the same of windows [B, frames, 3, S, S]."""
        count, frames = windows.shape[:2]
        fine, middle, deep = self.encode(windows.flatten(0, 1))
        tokens = self.tokens(deep).reshape(count, frames, self.side**2, self.dim)
        last = slice(frames - 1, None, frames)
        return self.decode(tokens, fine[last], middle[last])
