"""What the encoder sees of a pair and the decoder does not: both pictures moved and recoloured alike.

Moving them makes where something is useless to the encoder, so that the latent says how it moves (LAOM; measured in docs/quality.md). A
camera on the agent's hand is not moved: there, where things are is how the hand is held. Imported where it is used: torch.
"""

import torch
from torch import Tensor


def as_pictures(stored: Tensor) -> Tensor:
    """Return float32[B, 3, S, S] in 0..1 of uint8[B, S, S, 3]."""
    return stored.movedim(3, 1).float() / 255


def moved(stored: Tensor, by: Tensor) -> Tensor:
    """Return pictures uint8[B, S, S, 3] moved by whole pixels int64[B, 2], down and right; what leaves comes in on the other side."""
    count, height, width = stored.shape[:3]
    rows = (torch.arange(height, device=stored.device) - by[:, :1]) % height
    columns = (torch.arange(width, device=stored.device) - by[:, 1:]) % width
    which = torch.arange(count, device=stored.device)[:, None, None]
    return stored[which, rows[:, :, None], columns[:, None, :]]


def views(first: Tensor, second: Tensor, on_hand: Tensor, draws: Tensor, shift: float, jitter: float) -> tuple[Tensor, Tensor]:
    """Return both pictures of each pair as the encoder sees them, float32[B, 3, S, S].

    Args:
        first: uint8[B, S, S, 3].
        second: the same.
        on_hand: bool[B], pairs that are not moved.
        draws: float32[B, 4] of [0, 1): down, right, brightness, contrast.
        shift: share of the side that pictures move by at most.
        jitter: share by which brightness and contrast change at most.
    """
    most = round(shift * first.shape[1])
    by = torch.floor(draws[:, :2] * (2 * most + 1)).long() - most
    by = torch.where(on_hand[:, None], torch.zeros_like(by), by)
    gain = 1 + jitter * (2 * draws[:, 3:4, None, None] - 1)
    light = jitter * (draws[:, 2:3, None, None] - 0.5)

    def seen(stored: Tensor) -> Tensor:
        pictures = as_pictures(moved(stored, by) if most else stored)
        return pictures if not jitter else ((pictures - 0.5) * gain + 0.5 + light).clamp(0, 1)

    return seen(first), seen(second)
