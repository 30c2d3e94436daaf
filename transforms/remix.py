"""Domain shares by group distributionally robust optimisation: the outer loop of Re-Mix, fed by any trainer's log of excess losses.

Nothing is trained here. A log row says by how much a proxy model's loss exceeded a reference model's on one item of one domain at
one training step; `pipelines.fit.remix` trains both on a lake's own episodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import UsageError

F64 = npt.NDArray[np.float64]
EXCESS_LOG = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),  # training step of the proxy
        pa.field("domain", pa.string(), nullable=False),
        pa.field("excess", pa.float64(), nullable=False),  # proxy loss minus reference loss, nats or squared units
    ]
)


@dataclass(frozen=True, slots=True)
class RemixConfig:
    """Constants of the update; the defaults are those of the public implementation (github.com/jhejna/remix).

    Attributes:
        eta: step size of the exponentiated gradient.
        smoothing: share of the prior mixed back in at every step (DoReMi mixes in the uniform distribution instead).
        floor: smallest share in the result.
    """

    eta: float = 0.2
    smoothing: float = 0.05
    floor: float = 0.01

    def __post_init__(self) -> None:
        if not (self.eta > 0 and 0 <= self.smoothing < 1 and 0 <= self.floor < 1):
            raise UsageError(f"Re-Mix needs eta > 0 and smoothing, floor in [0, 1); got {self}")


@dataclass(frozen=True, slots=True)
class RemixFit:
    """What the log says.

    Attributes:
        domains: sorted names, D of them.
        path: float64[T + 1, D], the shares before each step and after the last.
        shares: float64[D], the mean of `path[1:]`, raised to the floor: the result Re-Mix hands to training.
        excess: float64[D], mean positive excess per domain over all its steps.
    """

    domains: tuple[str, ...]
    path: F64
    shares: F64
    excess: F64

    def weights(self) -> dict[str, float]:
        """Return the shares by domain name, ready for a mixture's sources."""
        return dict(zip(self.domains, map(float, self.shares), strict=True))


def fit_shares(log: pa.Table, prior: Mapping[str, float], config: RemixConfig | None = None) -> RemixFit:
    """Replay `alpha <- normalise(alpha * exp(eta * lambda))`, `alpha <- (1 - c) alpha + c * prior` over the log (Hejna et al., 2024).

    `lambda_d` is the mean of `max(excess, 0)` over the step's items of domain d, 0 where the step has none.

    Args:
        log: rows of `EXCESS_LOG`, any order.
        prior: initial weight per domain, above 0; normalised here. Usually the number of steps of each.
        config: constants.

    Raises:
        UsageError: the log is empty, not finite, or names a domain the prior does not have.
    """
    config = config or RemixConfig()
    domains, steps, domain, excess = _columns(log, prior)
    alpha0 = np.array([prior[d] for d in domains], np.float64)
    if not (np.isfinite(alpha0).all() and (alpha0 > 0).all()):
        raise UsageError(f"every domain needs a prior weight above 0; got {dict(prior)}")
    alpha0 /= alpha0.sum()
    pressure, total = _pressure(steps, domain, excess, len(domains))
    path = np.empty((len(pressure) + 1, len(domains)))
    path[0] = alpha0
    for t, lam in enumerate(pressure):
        path[t + 1] = moved(path[t], alpha0, lam, config)
    return RemixFit(domains, path, raise_to_floor(path[1:].mean(axis=0), config.floor), total)


def moved(shares: F64, prior: F64, pressure: F64, config: RemixConfig) -> F64:
    """Return the shares float64[D] after one step under `pressure` float64[D], the lambda of `fit_shares`."""
    grown = np.log(shares) + config.eta * pressure
    grown = np.exp(grown - grown.max())
    return (1 - config.smoothing) * grown / grown.sum() + config.smoothing * prior


def raise_to_floor(shares: F64, floor: float) -> F64:
    """Return shares float64[D] that sum to 1, none below `floor`, the others in their old proportions.

    Raises:
        UsageError: D floors do not fit into 1.
    """
    if floor * len(shares) > 1 + 1e-12:
        raise UsageError(f"{len(shares)} domains cannot all have a share of at least {floor}; lower the floor")
    low = np.zeros(len(shares), np.bool_)
    result = shares / shares.sum()
    while ((result < floor) & ~low).any():
        low |= result < floor
        rest = shares[~low].sum()
        result = np.where(low, floor, shares / rest * (1 - floor * low.sum()) if rest else floor)
    return result


def _columns(
    log: pa.Table, prior: Mapping[str, float]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64], npt.NDArray[np.int64], F64]:
    if missing := [n for n in EXCESS_LOG.names if n not in log.column_names]:
        raise UsageError(f"the excess log lacks the columns {missing}; it needs {EXCESS_LOG.names}")
    if not log.num_rows:
        raise UsageError("the excess log is empty; train the proxy for at least one step")
    names = np.array(log.column("domain").cast(pa.string()).to_pylist())
    if unknown := sorted(set(names.tolist()) - set(prior)):
        raise UsageError(f"the excess log names domains without a prior weight: {unknown}; the prior has {sorted(prior)}")
    excess = log.column("excess").cast(pa.float64()).to_numpy()
    if not np.isfinite(excess).all():
        raise UsageError(f"row {int(np.argmin(np.isfinite(excess)))} of the excess log is not finite; the proxy diverged")
    domains = tuple(sorted(prior))
    place = {d: i for i, d in enumerate(domains)}
    _, steps = np.unique(log.column("step").cast(pa.int64()).to_numpy(), return_inverse=True)
    return domains, steps, np.array([place[n] for n in names], np.int64), excess


def _pressure(steps: npt.NDArray[np.int64], domain: npt.NDArray[np.int64], excess: F64, domains: int) -> tuple[F64, F64]:
    """Return lambda float64[T, D] per step and the mean positive excess float64[D] over the whole log."""
    cell = steps * domains + domain
    size = (int(steps.max()) + 1) * domains
    positive = np.maximum(excess, 0)
    sums, counts = np.bincount(cell, positive, size), np.bincount(cell, minlength=size)
    overall = np.bincount(domain, positive, domains) / np.maximum(np.bincount(domain, minlength=domains), 1)
    return (sums / np.maximum(counts, 1)).reshape(-1, domains), overall
