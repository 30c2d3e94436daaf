"""Re-Mix: domain weights from the excess loss of a proxy policy over a reference policy, both trained here on proprioception.

Hejna et al., Re-Mix (CoRL 2024). The proxy predicts discretised actions (100 Gaussian bins after Gaussian normalisation per
domain) from standardised states; it is meant for up to about a million steps. Larger trainers write an excess log themselves and
hand it to `transforms.remix.fit_shares`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from pipelines.fit.frames import gather
from pipelines.fit.nets import draws, mlp
from schemas.errors import UsageError
from transforms.remix import EXCESS_LOG, RemixConfig, RemixFit, fit_shares, moved

F64 = npt.NDArray[np.float64]
BINS = 100


@dataclass(frozen=True, slots=True)
class Remix:
    """How the two policies are trained.

    Attributes:
        update: constants of the share update.
        hidden: width of the three hidden layers.
        rate: learning rate of AdamW, falling to 1 % along a cosine.
        steps: training steps of each policy.
        batch: items per step, the same number of each domain.
        seed: of everything random.
    """

    update: RemixConfig = field(default_factory=RemixConfig)
    hidden: int = 512
    rate: float = 3e-4
    steps: int = 20_000
    batch: int = 512
    seed: int = 0

    def fit(self, lake: Lake, episodes: pl.DataFrame, by: str = "dataset") -> tuple[RemixFit, pa.Table]:
        """Train reference and proxy on `episodes`, domains being the values of their column `by`; return the fit and its excess log.

        Raises:
            UsageError: the column is unknown, or there are fewer than two domains.
        """
        domains = _domains(lake, episodes, by)
        prior = {name: float(len(states)) for name, (states, _) in domains.items()}
        log = self.excess_log(domains, prior)
        return fit_shares(log, prior, self.update), log

    def excess_log(self, domains: dict[str, tuple[F64, F64]], prior: dict[str, float]) -> pa.Table:
        """Train both policies on `(state [N, S], action [N, A])` per domain, zero-padded to common widths; return rows of `EXCESS_LOG`."""
        names = sorted(domains)
        data = [_tensors(*domains[n]) for n in names]
        widths = [max(d[i].shape[1] for d in data) for i in (0, 1)]
        data = [tuple(_padded(part, width) for part, width in zip(d, (*widths, widths[1]), strict=True)) for d in data]
        total = sum(prior.values())
        share = np.array([prior[n] / total for n in names])
        reference = self._train(data, widths, share, None, [], names)
        rows: list[tuple[int, str, float]] = []
        self._train(data, widths, share, reference, rows, names)
        step, domain, excess = zip(*rows, strict=True)
        return pa.table({"step": step, "domain": domain, "excess": excess}, schema=EXCESS_LOG)

    def _train(self, data: list[Any], widths: list[int], prior: F64, reference: Any, log: list[Any], names: list[str]) -> Any:
        """Train one policy; with a reference, reweigh the domains after every step and log every item's excess."""
        import torch

        net = mlp((widths[0], self.hidden, self.hidden, self.hidden, widths[1] * BINS), self.seed)
        optimiser = torch.optim.AdamW(net.parameters(), self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps, self.rate / 100)
        alpha, each = prior.copy(), max(self.batch // len(data), 1)
        for step in range(self.steps):
            losses = []
            for number, (states, bins, used) in enumerate(data):
                rows = draws(len(states), each, self.seed * 1009 + number, step)
                own = _loss(net, states[rows], bins[rows], used[rows])
                if reference is not None:
                    with torch.no_grad():
                        known = _loss(reference, states[rows], bins[rows], used[rows])
                    own = own - known
                    log += [(step, names[number], float(x)) for x in own.detach()]
                losses.append(own)
            loss = sum(float(a) * own.mean() for a, own in zip(alpha, losses, strict=True))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if reference is not None:
                alpha = moved(alpha, prior, np.array([float(x.detach().clamp_min(0).mean()) for x in losses]), self.update)
        return net


def _domains(lake: Lake, episodes: pl.DataFrame, by: str) -> dict[str, tuple[F64, F64]]:
    if by not in episodes.columns:
        raise UsageError(f"episodes have no column {by!r} to tell domains apart; they have {episodes.columns}")
    found: dict[str, tuple[F64, F64]] = {}
    for (name,), rows in episodes.group_by(by, maintain_order=True):
        frames = gather(lake, rows)
        if len(frames) != 1:
            raise UsageError(
                f"domain {name!r} mixes the action spaces {[f.scope for f in frames]}; tell domains apart by dataset"
            )
        found[str(name)] = frames[0].standardised()
    if len(found) < 2:
        raise UsageError(f"{by} has {len(found)} value here; shares need at least two domains")
    return found


def _tensors(state: F64, action: F64) -> tuple[Any, Any, Any]:
    """Return states, action bins of equal mass under a Gaussian, and which action dimensions vary."""
    import torch
    from scipy.special import ndtr

    bins = np.clip((ndtr(action) * BINS).astype(np.int64), 0, BINS - 1)
    used = np.broadcast_to(action.std(axis=0) > 0, action.shape).copy()
    return torch.from_numpy(state.astype(np.float32)), torch.from_numpy(bins), torch.from_numpy(used)


def _padded(part: Any, width: int) -> Any:
    import torch

    return torch.nn.functional.pad(part, (0, width - part.shape[1]))


def _loss(net: Any, states: Any, bins: Any, used: Any) -> Any:
    """Return the cross-entropy per item, the mean over its used action dimensions; float32[n]."""
    import torch

    logits = net(states).reshape(len(states), -1, BINS)
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), bins, reduction="none")
    return (loss * used).sum(dim=1) / used.sum(dim=1).clamp_min(1)
