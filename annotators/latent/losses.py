"""What a decoder's answer costs, and which pixels count. Everything is torch; imported where a model is trained."""

import math

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 8  # side of the blocks whose frequencies are compared


def changed(first: Tensor, second: Tensor, above: float) -> Tensor:
    """Tell which cells of a map differ by more than `above` in any channel, bool[B, 1, H, W]."""
    return (second - first).abs().amax(1, keepdim=True) > above


def weighted(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of errors [B, C, H, W] under weights [B, 1, H, W]."""
    return (error.mean(1, keepdim=True) * weight).sum() / weight.sum().clamp(min=1e-9)


def weights(motion: Tensor, agent: Tensor | None, more: float, of_agent: float) -> Tensor:
    """Return how much each cell counts, float32[B, 1, H, W]: 1, more where it changes, and more where the agent is.

    Args:
        motion: bool[B, 1, H, W].
        agent: bool[B, S, S]; None where nobody knows.
        more: extra weight of motion.
        of_agent: extra weight of the agent.
    """
    weight = 1 + more * motion.float()
    if agent is None or not of_agent:
        return weight
    return weight + of_agent * functional.adaptive_avg_pool2d(agent[:, None].float(), (motion.shape[2], motion.shape[3]))


def flow_loss(flow: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """Return the L1 gap of a decoder's flow float32[B, 2, h, w] and optical flow float32[B, 2, S, S], both as shares of the side.

    Optical flow of more than an eighth of the side is taken for that much: it is rarely right.
    """
    side, cells = true.shape[3], flow.shape[3]
    small = functional.adaptive_avg_pool2d(true / side, (cells, cells)).clamp(-0.125, 0.125)
    return weighted((flow / cells - small).abs() * 8, weight)


def warp_loss(later: Tensor, first: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Return how far the predicted later picture is from the earlier one carried along optical flow, where both flows agree.

    A place is left out if going there and back ends further than a pixel and a twentieth of the way away (Sundaram and others, 2010).
    """
    from annotators.latent.model import carried

    back = carried(forward, backward) + backward
    seen = (back**2).sum(1, keepdim=True) < 1 + 0.05 * (forward**2 + backward**2).sum(1, keepdim=True)
    return weighted((later - carried(first, backward)).abs(), seen.float())


def texture_loss(later: Tensor, true: Tensor) -> Tensor:
    """Return the gap of gradients at three scales and of the frequencies of 8 by 8 blocks, each weighted by 1 / frequency."""
    gap, loss = later - true, later.new_zeros(())
    for scale in range(3):
        small = functional.avg_pool2d(gap, 2**scale) if scale else gap
        loss = loss + small.diff(dim=2).abs().mean() + small.diff(dim=3).abs().mean()
    basis = cosines(BLOCK).to(gap)
    blocks = gap.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
    order = torch.arange(BLOCK, device=gap.device)
    return loss + ((basis @ blocks @ basis.T).abs() / (1 + order[:, None] + order)).mean()


def cosines(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix, float32[size, size]."""
    k = torch.arange(size, dtype=torch.float32)
    basis = torch.cos(math.pi / size * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
