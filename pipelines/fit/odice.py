"""ODICE: weights that correct the state-action distribution of recorded data towards that of the best policy it supports.

Mao et al., ODICE (ICLR 2024). Only useful where rewards or successes exist. The value function is a small network on standardised
proprioception; its update adds to the forward gradient the part of the backward gradient that is orthogonal to it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from pipelines.fit.frames import Frames, gather
from pipelines.fit.nets import draws, mlp
from pipelines.fit.stage import Fitted
from schemas.errors import UsageError
from transforms.dice import advantage, conjugate, orthogonal, policy_weight

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Odice:
    """Scores spans of episodes with their mean weight, 0 or more; a mixture takes its logarithm.

    Attributes:
        gamma: discount per step.
        lam: balance of the two terms of the loss, in (0, 1).
        eta: strength of the orthogonal backward gradient.
        reward_scale: rewards are multiplied by this.
        hidden: width of the two hidden layers.
        rate: learning rate of Adam.
        average: rate of the moving average that makes the target network.
        steps: training steps.
        batch: transitions per step.
        span_s: length of a scored span, seconds.
        seed: of everything random.
    """

    gamma: float = 0.99
    lam: float = 0.8
    eta: float = 1.0
    reward_scale: float = 1.0
    hidden: int = 256
    rate: float = 1e-4
    average: float = 0.005
    steps: int = 500_000
    batch: int = 256
    span_s: float = 1.0
    seed: int = 0

    @property
    def method(self) -> str:
        """Its name in the `scores` table."""
        return "odice"

    def fit(self, lake: Lake, episodes: pl.DataFrame) -> Fitted:
        """Train a value function per action space and weigh its transitions.

        Raises:
            UsageError: no transition of an action space is rewarded.
        """
        scores, facts = list[pl.DataFrame](), list[dict[str, Any]]()
        for frames in gather(lake, episodes):
            if not np.any(frames.reward):
                raise UsageError(f"{frames.scope}: no reward and no successful episode; ODICE has nothing to go by")
            state, _ = frames.standardised()
            weight = policy_weight(self.advantages(state, frames.reward * self.reward_scale, frames.last))
            scores.append(span_scores(frames, weight, self.span_s))
            facts.append(
                {"scope": frames.scope, "steps": len(weight), "positive": float((weight > 0).mean()), "dropped": frames.dropped}
            )
        return Fitted(pl.concat(scores).sort("episode_id", "start_ns"), {"spaces": facts})

    def advantages(self, state: F64, reward: F64, last: npt.NDArray[np.bool_]) -> F64:
        """Train on transitions in order (the next state of a row is the next row, except where `last`); return delta float64[N]."""
        import torch

        net, slow = (
            mlp((state.shape[1], self.hidden, self.hidden, 1), self.seed),
            mlp((state.shape[1], self.hidden, self.hidden, 1), self.seed),
        )
        optimiser = torch.optim.Adam(net.parameters(), self.rate)
        following = np.minimum(np.arange(len(state)) + 1, len(state) - 1)
        s, r, done = (torch.from_numpy(x.astype(np.float32)) for x in (state, reward, last))
        for step in range(self.steps):
            rows = draws(len(state), self.batch, self.seed, step)
            self._update(net, slow, optimiser, s[rows], s[following[rows]], r[rows], done[rows])
        with torch.inference_mode():
            value = net(s)[:, 0].numpy().astype(np.float64)
        return advantage(reward, value, value[following], last.astype(np.float64), self.gamma)

    def _update(self, net: Any, slow: Any, optimiser: Any, s: Any, s_next: Any, r: Any, done: Any) -> None:
        import torch

        value, after = net(s)[:, 0], net(s_next)[:, 0]
        with torch.no_grad():
            target, target_after = slow(s)[:, 0], slow(s_next)[:, 0]
        forward = self.lam * conjugate(r + self.gamma * (1 - done) * target_after - value).mean()
        backward = self.lam * conjugate(r + self.gamma * (1 - done) * after - target).mean()
        parts = [
            torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, tuple(net.parameters()), retain_graph=True)])
            for loss in (forward, backward)
        ]
        along = orthogonal(parts[0], parts[1], self.eta)
        pull = torch.cat([g.reshape(-1) for g in torch.autograd.grad((1 - self.lam) * value.mean(), tuple(net.parameters()))])
        at = 0
        for parameter in net.parameters():
            parameter.grad = (along + pull)[at : at + parameter.numel()].reshape(parameter.shape).clone()
            at += parameter.numel()
        optimiser.step()
        with torch.no_grad():
            for fast, kept in zip(net.parameters(), slow.parameters(), strict=True):
                kept.lerp_(fast, self.average)


def span_scores(frames: Frames, weight: F64, span_s: float) -> pl.DataFrame:
    """Return the mean weight of every span of `span_s` seconds of every episode."""
    ids = frames.episodes["episode_id"].gather(frames.episode.tolist())
    table = pl.DataFrame({"episode_id": ids, "t_ns": frames.t_ns, "weight": weight})
    length = round(span_s * 1e9)
    spans = table.with_columns((pl.col("t_ns") // length * length).alias("start_ns"))
    grouped = spans.group_by("episode_id", "start_ns").agg(pl.col("weight").mean().alias("value"))
    return grouped.with_columns((pl.col("start_ns") + length).alias("end_ns")).select("episode_id", "start_ns", "end_ns", "value")
