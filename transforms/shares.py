"""Shares under limits: proportional to the weights, capped in epochs, never below a floor (water-filling)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.errors import InfeasibleMixtureError

F64 = npt.NDArray[np.float64]
_SLACK = 1e-12


def fill_shares(
    names: Sequence[str],
    weights: npt.ArrayLike,
    items: npt.ArrayLike,
    samples: int,
    max_epochs: npt.ArrayLike,
    floors: npt.ArrayLike,
) -> F64:
    """Return the shares float64[S] that follow `weights` as closely as caps and floors allow; they add up to 1.

    share_i = clip(level * weight_i, floor_i, max_epochs_i * items_i / samples), with the one level at which they add up to 1. This
    is UniMax (Chung et al. 2023) for arbitrary weights, with floors.

    Args:
        names: of the sources, for messages.
        weights: float[S], 0 or more.
        items: int[S], how many items each source has.
        samples: number of draws T.
        max_epochs: float[S], `inf` for no limit.
        floors: float[S], in [0, 1).

    Raises:
        InfeasibleMixtureError: the sources cannot supply `samples` draws (the message names the most they can), a floor is above
            its cap, or the floors add up to more than 1.
    """
    v, n = np.asarray(weights, np.float64), np.asarray(items, np.float64)
    low, epochs = np.asarray(floors, np.float64), np.asarray(max_epochs, np.float64)
    used = v > 0
    endless = np.isinf(epochs) & (n > 0)
    supply = np.where(used, np.where(endless, np.inf, np.where(np.isinf(epochs), 0, epochs) * n), 0)
    high, low = np.minimum(supply / samples, 1.0), np.where(used, low, 0)
    _feasible(names, samples, supply, low)
    level = _level(v[used], low[used], high[used])
    shares = np.zeros(len(v))
    shares[used] = np.clip(level * v[used], low[used], np.maximum(high[used], low[used]))
    return shares / shares.sum()


def _feasible(names: Sequence[str], samples: int, supply: F64, low: F64) -> None:
    most = np.floor(supply + 1e-6).sum()
    if supply.sum() < samples * (1 - _SLACK):
        detail = ", ".join(f"{n} {s:.0f}" for n, s in zip(names, supply, strict=True))
        raise InfeasibleMixtureError(
            f"the sources cannot supply {samples} samples within their caps, at most {most:.0f} ({detail}); "
            f"lower samples to {most:.0f}, raise max_epochs, or add episodes"
        )
    if low.sum() > 1 + _SLACK:
        raise InfeasibleMixtureError(f"the floors add up to {low.sum():.4g}; shares cannot exceed 1, lower some of them")
    for i in np.flatnonzero(low * samples > supply * (1 + _SLACK)):
        raise InfeasibleMixtureError(
            f"source {names[i]}: a floor of {low[i]:.4g} of {samples} samples is more than the {supply[i]:.0f} its cap allows; "
            f"lower samples to {int(supply[i] / low[i])}, lower the floor, or raise max_epochs"
        )


def _level(v: F64, low: F64, high: F64) -> float:
    """Solve sum(clip(level * v, low, high)) = 1: the sum is piecewise linear and rises with the level, so sort its corners."""
    corners = np.unique(np.concatenate([low / v, np.minimum(high, 1.0) / v]))
    below, above = 0, len(corners) - 1
    while below < above:  # first corner at which the sum reaches 1
        at = (below + above) // 2
        if np.clip(corners[at] * v, low, high).sum() >= 1:
            above = at
        else:
            below = at + 1
    end = corners[below]
    start = corners[below - 1] if below else 0.0
    moving = (low / v < end) & (high / v > start)
    fixed = np.where(low / v >= end, low, high)[~moving].sum()
    slope = v[moving].sum()
    return float(np.clip((1 - fixed) / slope, start, end)) if slope > 0 else float(end)
