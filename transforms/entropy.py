"""Information potential of a policy's errors: what minimum-error-entropy training raises, and weights for curation that follow from it.

With errors e_i in R^d and a Gaussian kernel of width s, V = 1/N^2 sum_ij G_s(e_i - e_j); Renyi's quadratic entropy is -log V
(Principe 2010), and the loss is MSE - b log V (arXiv 2602.04228). The loss itself needs a live policy; V over cached errors tells
which samples a frozen one finds alike.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def information_potential(errors: npt.ArrayLike, sigma: float, block: int = 1024) -> tuple[float, F64]:
    """Return V, and each sample's share of it: its mean kernel to all samples, float64[N].

    Args:
        errors: [N, ...]; each sample's error is flattened.
        sigma: kernel width, in the errors' unit.
        block: rows of the kernel matrix in memory at once.
    """
    flat = np.asarray(errors, np.float64).reshape(len(np.asarray(errors)), -1)
    norms = np.square(flat).sum(1)
    scale = -0.5 / sigma**2
    constant = -0.5 * flat.shape[1] * math.log(2 * math.pi * sigma**2)
    shares = np.empty(len(flat))
    for start in range(0, len(flat), block):
        part = slice(start, start + block)
        distance = np.maximum(norms[part, None] + norms - 2 * flat[part] @ flat.T, 0)
        shares[part] = np.exp(scale * distance + constant).mean(1)
    return float(shares.mean()), shares


def silverman(errors: npt.ArrayLike) -> float:
    """Return Silverman's kernel width for these errors, from their mean spread over dimensions."""
    flat = np.asarray(errors, np.float64).reshape(len(np.asarray(errors)), -1)
    count, dims = flat.shape
    return float(flat.std(0).mean()) * (4 / (count * (dims + 2))) ** (1 / (dims + 4)) or 1.0


def entropy_weights(errors: npt.ArrayLike, sigma: float | None = None) -> F64:
    """Return weights of mean 1: high where a sample's error resembles many others', low where it stands alone."""
    _, shares = information_potential(errors, sigma or silverman(errors))
    total = shares.sum()
    return shares * (len(shares) / total) if total else np.ones_like(shares)


def entropy_loss(beta: float, sigma: float) -> Callable[[Any], Any]:
    """Return `loss(errors)` for training with torch: mean square minus beta log V over a batch's errors [N, ...]."""
    import torch

    def loss(errors: Any) -> Any:
        flat = errors.flatten(1)
        squared = torch.cdist(flat, flat).square() / (-2 * sigma**2)
        log_v = (
            torch.logsumexp(squared.flatten(), 0)
            - 2 * math.log(len(flat))
            - 0.5 * flat.shape[1] * math.log(2 * math.pi * sigma**2)
        )
        return errors.square().mean() - beta * log_v

    return loss
