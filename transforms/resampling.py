"""Weights as whole copies: systematic resampling of a long list, kept as runs of equal weight and computed from a position.

Step j occurs c_j = floor(u + W_j) - floor(u + W_(j-1)) times, W the running sum of the weights (mean 1) and u one start in [0, 1):
never more than one copy away from its weight. Weights are integers in units of 1 / `UNIT`, so nothing here rounds, and a list of
any length costs memory per run only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from transforms.noise import seed_of

UNIT = 1 << 20
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Copies:
    """The list in which each step stands as often as its weight says.

    Attributes:
        steps: int64[runs], steps per run.
        weights: int64[runs], weight of each step of the run, in units of 1 / `UNIT`.
        start: u in the same units, in [0, `UNIT`).
    """

    steps: I64
    weights: I64
    start: int = 0

    def __len__(self) -> int:
        """Number of copies."""
        return int(self._ends[-1]) // UNIT if len(self.steps) else 0

    @cached_property
    def firsts(self) -> I64:
        """Copies before each run, and before the end, int64[runs + 1]."""
        return np.concatenate([[self.start], self._ends]).astype(np.int64) // UNIT

    def find(self, copies: I64) -> tuple[I64, I64]:
        """Return for each copy its run and its step in the run, both int64[n]; copies must be in `range(len(self))`."""
        wanted = (copies + 1) * UNIT
        run = np.searchsorted(self._ends, wanted, side="left")
        begin = self._ends[run] - self.steps[run] * self.weights[run]
        step = -((begin - wanted) // self.weights[run]) - 1  # first step whose running sum reaches `wanted`
        return run.astype(np.int64), step

    def count(self, run: npt.ArrayLike, step: npt.ArrayLike) -> I64:
        """Return how often steps of runs occur, int64[n]."""
        runs, at = np.asarray(run, np.int64), np.asarray(step, np.int64)
        weight = self.weights[runs]
        before = self._ends[runs] - (self.steps[runs] - at) * weight
        return (before + weight) // UNIT - before // UNIT

    def kept(self) -> I64:
        """Return how many steps of each run occur at least once, int64[runs]."""
        return np.minimum(np.diff(self.firsts), self.steps)

    @cached_property
    def _ends(self) -> I64:
        return self.start + np.cumsum(self.steps * self.weights, dtype=np.int64)


def whole_weights(weights: F64, steps: I64) -> I64:
    """Return weights in units of 1 / `UNIT`, scaled so that their mean over all steps of weight above 0 is 1.

    A weight above 0 stays above 0.

    Args:
        weights: float64[runs], 0 or more.
        steps: int64[runs].
    """
    kept = weights > 0
    mean = np.average(weights[kept], weights=steps[kept]) if steps[kept].any() else 1.0
    return np.where(kept, np.maximum(np.rint(weights / mean * UNIT), 1), 0).astype(np.int64)


def effective_size(weights: npt.ArrayLike, steps: npt.ArrayLike) -> float:
    """Return Kish's effective sample size (sum w)^2 / sum w^2 of runs of steps; 0 of no weight."""
    w, n = np.asarray(weights, np.float64), np.asarray(steps, np.float64)
    square = float((n * w * w).sum())
    return float((n * w).sum()) ** 2 / square if square else 0.0


def drawn_start(name: str) -> int:
    """Return the start u of a list from its name alone, in [0, `UNIT`): the same wherever the list is read."""
    return seed_of("resampling", name) % UNIT
