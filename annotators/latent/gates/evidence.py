"""What a latent is judged by: the latents of some intervals, what really happened in them, and everything they are compared with."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from transforms.grid import BOOL, I64
from transforms.noise import raw

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Intervals, laid end to end; n of them, in any order.

    Attributes:
        latent: float32[n, d], what is judged.
        action: float64[n, a], what the agent did in the interval; see `annotators.latent.gates.truth`.
        episode: int64[n], place of each interval's episode in `names`.
        names: ids of episodes, or of whatever must not be split (scenes, operators).
        axes: what each number of an action is.
        told_by: where actions come from.
        first: float32[n, f], features of the picture at the beginning alone.
        second: float32[n, f], features of the picture at the end alone.
        state: float64[n, s], proprioception at the beginning; None where there is none.
        flow: float32[n, 2 c^2 + 6], `flow_latent` of the same pictures; None where that is what is judged.
        random: float32[n, d], what the same model says before it is trained; None where nothing is trained.
        code: int64[n], discrete latents; None where they are continuous.
        codes: how many there are.
        start: int64[n], the batch's step where each interval begins; None where there is no batch.
        stop: int64[n], the step where it ends.
        detail: further numbers for every report.
    """

    latent: F32
    action: F64
    episode: I64
    names: tuple[str, ...]
    axes: tuple[str, ...]
    told_by: str
    first: F32
    second: F32
    state: F64 | None = None
    flow: F32 | None = None
    random: F32 | None = None
    code: I64 | None = None
    codes: int = 0
    start: I64 | None = None
    stop: I64 | None = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def pair(self) -> F32:
        """Features of both pictures, float32[n, 2 f]: what a latent of these features cannot exceed."""
        return np.concatenate([self.first, self.second], 1)

    @property
    def episodes(self) -> int:
        """How many episodes have an interval."""
        return len(np.unique(self.episode))

    def take(self, rows: BOOL | I64) -> Self:
        """Return some of the intervals."""
        per_row = ("latent", "action", "episode", "first", "second", "state", "flow", "random", "code", "start", "stop")
        found = {n: v[rows] for n in per_row if (v := getattr(self, n)) is not None}
        return replace(self, **found)

    def shuffled(self, seed: int = 0) -> Self:
        """Return the adversarial twin: the same latents, dealt out over the intervals at random."""
        order = permutation(len(self.latent), seed)
        return replace(self, latent=self.latent[order], code=None if self.code is None else self.code[order])


def permutation(count: int, seed: int = 0) -> I64:
    """Return an order of `count` things that the seed names."""
    return np.argsort(raw([seed], 0, count)[0], kind="stable")
