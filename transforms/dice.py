"""Distribution-correction weights with the Pearson chi-square divergence, and the orthogonal gradient of ODICE.

Formulas of Mao et al., ODICE (ICLR 2024), as in its public implementation. `pipelines.fit.odice` trains the value function.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
MOST = 100.0  # weights are clipped here


def advantage(reward: F64, value: F64, next_value: F64, done: F64, gamma: float) -> F64:
    """Return the temporal difference `r + gamma * (1 - done) * V(s') - V(s)`, float64[N]."""
    return reward + gamma * (1 - done) * next_value - value


def density_ratio(delta: F64) -> F64:
    """Return the optimal occupancy ratio `omega* = max(delta / 2 + 1, 0)`, float64[N]."""
    return np.maximum(delta / 2 + 1, 0)


def conjugate(delta: Any) -> Any:
    """Return `f*(delta) = omega* delta - (omega* - 1)^2` for an array or a tensor."""
    omega = (delta / 2 + 1).clip(0)
    return omega * delta - (omega - 1) ** 2


def policy_weight(delta: F64) -> F64:
    """Return the weight of weighted behaviour cloning, `max(delta, 0)` clipped at `MOST`, float64[N]."""
    return np.clip(delta, 0, MOST)


def orthogonal(forward: Any, backward: Any, eta: float) -> Any:
    """Return `forward + eta * (backward - its projection on forward)` of two flat gradients (arrays or tensors of one dimension)."""
    along = (forward @ backward) / max(float(forward @ forward), 1e-10)
    return forward + eta * (backward - along * forward)
