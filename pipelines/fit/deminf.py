"""DemInf: demonstrations ranked by how much they contribute to the mutual information of states and actions.

Hejna et al., arXiv 2502.08623. State and action chunk are each compressed by a small variational autoencoder, and the
nearest-neighbour contributions of `transforms.mutual_information` are taken in the two latent spaces.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from pipelines.fit.frames import Frames, gather
from pipelines.fit.nets import batches, mlp
from pipelines.fit.stage import Fitted
from schemas.errors import UsageError
from transforms.mutual_information import NEIGHBOURS, batched_contributions, mean_by_group, standardised
from transforms.noise import normals

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DemInf:
    """Scores whole episodes; higher is more predictable action given state. Comparable only within one action space of one run.

    Attributes:
        horizon_s: the action chunk covers `[0, horizon)` from each step; 0: the step's action alone.
        state_latent: latent dimensions of the state.
        action_latent: latent dimensions of the action chunk.
        hidden: width of the two hidden layers.
        beta: weight of the Kullback-Leibler term.
        rate: learning rate of AdamW.
        steps: training steps of each autoencoder.
        batch: samples per training step and per neighbour search.
        passes: random partitions over which contributions are averaged.
        seed: of everything random.
    """

    horizon_s: float = 0.5
    state_latent: int = 12
    action_latent: int = 6
    hidden: int = 512
    beta: float = 0.05
    rate: float = 1e-4
    steps: int = 50_000
    batch: int = 1024
    passes: int = 4
    seed: int = 0

    @property
    def method(self) -> str:
        """Its name in the `scores` table."""
        return "deminf"

    def fit(self, lake: Lake, episodes: pl.DataFrame) -> Fitted:
        """Train both autoencoders per action space and score every episode with usable steps.

        Raises:
            UsageError: an action space has too few steps for a neighbour search.
        """
        found = [self._score(frames) for frames in gather(lake, episodes)]
        scores = pl.concat([s for s, _ in found]).sort("episode_id")
        return Fitted(scores, {"spaces": [facts for _, facts in found]})

    def _score(self, frames: Frames) -> tuple[pl.DataFrame, dict[str, Any]]:
        if len(frames.episode) <= max(NEIGHBOURS):
            raise UsageError(f"{frames.scope}: {len(frames.episode)} steps are too few to look for {max(NEIGHBOURS)} neighbours")
        state, action = frames.standardised()
        chunk = chunks(frames, action, self.horizon_s)
        coded = [
            self.encode(x, min(size, x.shape[1]), n)
            for n, (x, size) in enumerate(((state, self.state_latent), (chunk, self.action_latent)))
        ]
        raw = batched_contributions(coded[0][0], coded[1][0], self.seed, self.batch, self.passes)
        value = mean_by_group(standardised(raw), frames.episode, frames.episodes.height)
        facts = {
            "scope": frames.scope, "steps": len(frames.episode), "dropped": frames.dropped,
            "explained": [explained for _, explained in coded],
        }  # fmt: skip
        return episode_scores(frames, value), facts

    def encode(self, values: F64, latent: int, number: int) -> tuple[F64, float]:
        """Train a variational autoencoder on float64[N, D]; return the latent means float64[N, latent] and the share of variance explained."""
        import torch

        data = torch.from_numpy(values.astype(np.float32))
        width, seed = values.shape[1], self.seed * 2 + number
        down = mlp((width, self.hidden, self.hidden, 2 * latent), seed)
        up = mlp((latent, self.hidden, self.hidden, width), seed + 1)
        optimiser = torch.optim.AdamW([*down.parameters(), *up.parameters()], self.rate)
        for step, rows in enumerate(batches(len(values), min(self.batch, len(values)), self.steps, seed)):
            batch = data[torch.from_numpy(rows)]
            mean, log_var = down(batch).chunk(2, dim=1)
            log_var = log_var.clamp(-10, 10)
            noise = torch.from_numpy(normals([seed], step, (len(rows), latent))[0].astype(np.float32))
            rebuilt = up(mean + (0.5 * log_var).exp() * noise)
            divergence = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1).mean()
            loss = (rebuilt - batch).square().sum(dim=1).mean() + self.beta * divergence
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.inference_mode():
            mean = down(data)[:, :latent]
            left = (up(mean) - data).square().sum() / (data - data.mean(dim=0)).square().sum().clamp_min(1e-12)
        return mean.numpy().astype(np.float64), float(1 - left)


def chunks(frames: Frames, action: F64, horizon_s: float) -> F64:
    """Return action chunks float64[N, K * A] of `horizon_s` at the median control rate; the last action is repeated past the end."""
    gaps = np.diff(frames.t_ns)[np.diff(frames.episode) == 0]
    period = float(np.median(gaps)) * 1e-9 if len(gaps) else 1.0
    count = max(round(horizon_s / period), 1)
    ends = np.flatnonzero(frames.last)[np.searchsorted(np.flatnonzero(frames.last), np.arange(len(action)))]
    rows = np.minimum(np.arange(len(action))[:, None] + np.arange(count), ends[:, None])
    return action[rows].reshape(len(action), -1)


def episode_scores(frames: Frames, value: F64) -> pl.DataFrame:
    """Return one score row per episode with a finite value, over its whole length."""
    table = frames.episodes.select("episode_id", (pl.col("duration_s") * 1e9).round().cast(pl.Int64).alias("end_ns"))
    rows = table.with_columns(pl.lit(0, pl.Int64).alias("start_ns"), pl.Series("value", value))
    return rows.filter(pl.col("value").is_finite()).select("episode_id", "start_ns", "end_ns", "value")
