"""What a latent must pass through: noise, an energy that keeps it sparse, or a choice among codes. Imported where a model is built.

Every bottleneck takes what the pair's head says, [B, n * k], and returns a `Latent`. Distances and terms are in single precision whatever
runs around them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

REVIVE_BELOW = 0.1  # of the use of a code if all were used alike
FIRST_LOGVAR = -5.0  # a latent begins nearly without noise, or the decoder learns to do without it
RESTARTS = ((100, 10), (1000, 100), (5000, 500))  # before this step, every so many


@dataclass(frozen=True, slots=True)
class Latent:
    """What a bottleneck let through.

    Attributes:
        value: [B, n, d], what the decoder is told.
        mean: [B, n, d], the same without noise, before any choice of a code.
        logvar: [B, n, d] of `noise`; None of the others.
        code: int64[B, n] of discrete ones; None of continuous ones.
        distance: float32[B, n] to the code chosen; None of continuous ones.
        loss: what it costs, a number without its weight.
    """

    value: Tensor
    mean: Tensor
    logvar: Tensor | None
    code: Tensor | None
    distance: Tensor | None
    loss: Tensor


class Noise(nn.Module):
    """A Gaussian around the mean; the loss is KL(N(mean, exp(logvar)) | N(0, 1)), summed over a latent."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.shape, self.width = (tokens, dim), 2 * tokens * dim
        self.first = nn.Parameter(torch.full((tokens, dim), FIRST_LOGVAR))

    def forward(self, raw: Tensor, noise: Tensor | None) -> Latent:
        """Add noise; without any, the latent is the mean."""
        mean, logvar = raw.float().unflatten(1, (self.shape[0], -1)).chunk(2, 2)
        logvar = (logvar + self.first).clamp(-8, 4)
        loss = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum((1, 2)).mean()
        value = mean if noise is None else mean + noise * torch.exp(0.5 * logvar)
        return Latent(value, mean, logvar, None, None, loss)


class Sparse(nn.Module):
    """No noise; an energy holds latents at a length of sqrt(D) with few large numbers (LAWM, arXiv 2601.05230, signs put right)."""

    def __init__(self, tokens: int, dim: int, l1: float) -> None:
        super().__init__()
        self.shape, self.width, self.l1 = (tokens, dim), tokens * dim, l1

    def forward(self, raw: Tensor, noise: Tensor | None) -> Latent:  # noqa: ARG002
        """Let everything through; `noise` is for the others."""
        value = raw.float().unflatten(1, self.shape)
        return Latent(value, value, None, None, None, spread(value.flatten(1)) + energy(value.flatten(1), self.l1))


class Codes(nn.Module):
    """A choice of the nearest code per token; how the choice is passed on is `passing`.

    `vq`: straight through, with |sg z - c|^2 + .25 |z - sg c|^2 (van den Oord and others, 2017). `nsvq`: in training the code's error is
    put in a random direction, z + |z - c| e / |e|, and there is no further loss (Vali and Baeckstroem, 2022).
    """

    use: Tensor

    def __init__(self, tokens: int, dim: int, codes: int, passing: str) -> None:
        super().__init__()
        self.shape, self.width, self.passing = (tokens, dim), tokens * dim, passing
        self.book = nn.Parameter(torch.randn(codes, dim) * 0.5)
        self.register_buffer("use", torch.zeros(codes))

    def forward(self, raw: Tensor, noise: Tensor | None) -> Latent:
        """Choose codes; with noise given, as in training."""
        mean = raw.float().unflatten(1, self.shape)
        flat, book = mean.flatten(0, 1), self.book.float()
        gap = torch.cdist(flat[None], book[None])[0]
        code = gap.argmin(1)
        chosen, shape = book[code].view_as(mean), mean.shape[:2]
        if noise is not None:
            self.use += torch.bincount(code.detach(), minlength=len(book)).to(self.use)
        distance = gap.detach().gather(1, code[:, None]).view(shape)
        if noise is None or self.passing == "vq":
            loss = ((chosen - mean.detach()) ** 2).mean() + 0.25 * ((mean - chosen.detach()) ** 2).mean()
            value = chosen if noise is None else mean + (chosen - mean).detach()
            return Latent(value, mean, None, code.view(shape), distance, loss)
        error = (mean - chosen).norm(dim=2, keepdim=True)
        value = mean + error * noise / noise.norm(dim=2, keepdim=True).clamp(min=1e-9)
        return Latent(value, mean, None, code.view(shape), distance, mean.new_zeros(()))

    @torch.no_grad()
    def revive(self, mean: Tensor, draws: Tensor) -> int:
        """Move codes hardly anybody chooses onto latents that were seen, and return how many were moved.

        Args:
            mean: [B, n, d], latents of a batch.
            draws: [codes, 1 + d] of [0, 1) and of a Gaussian: which latent each would get, and how far beside it.
        """
        dead = torch.nonzero(self.use < self.use.sum() * REVIVE_BELOW / len(self.use))[:, 0]
        flat = mean.float().flatten(0, 1)
        if len(dead) and len(flat):
            onto = flat[(draws[dead, 0] * len(flat)).long().clamp(max=len(flat) - 1)]
            self.book[dead] = onto + 0.01 * flat.std() * draws[dead, 1:]
        self.use.zero_()
        return len(dead)


def is_time_to_revive(step: int) -> bool:
    """Tell whether dead codes are moved after this step: often at first, never late (LAPA's schedule)."""
    return any(step < before and step and step % every == 0 for before, every in RESTARTS)


def energy(values: Tensor, l1: float) -> Tensor:
    """Mean over the batch of max(sqrt(D) - |z|^2, 0) + l1 |z|_1, of float32[B, D]."""
    return (torch.relu(math.sqrt(values.shape[1]) - (values**2).sum(1)) + l1 * values.abs().sum(1)).mean()


def spread(values: Tensor) -> Tensor:
    """Keep numbers apart from each other, of float32[B, D]: standard deviations of 1 (weight .1), no covariance (.001), no mean (.1).

    Variance, covariance and mean terms as in VICReg (Bardes and others, 2022) with LAWM's weights.
    """
    count, wide = values.shape
    centred = values - values.mean(0)
    covariance = centred.T @ centred / max(count - 1, 1)
    variance = covariance.diagonal()
    apart = (covariance**2).sum() - (variance**2).sum()
    narrow = torch.relu(1 - torch.sqrt(variance + 1e-6)).mean()
    return 0.1 * narrow + 0.001 * apart / max(wide * (wide - 1), 1) + 0.1 * (values.mean(0) ** 2).mean()
