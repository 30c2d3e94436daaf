"""Latents of longer stretches out of latents of short ones: runs of one code, chains of latents that follow each other, several horizons at once.

`persistent` is the maximum a posteriori path under a prior that keeps a code with probability 1 - rho and draws a new one otherwise: with
squared distances as costs that is `min_c sum_t d(t, c_t) + penalty [c_t != c_(t-1)]`, and Viterbi's recursion solves it exactly in O(T K).
"""

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.grid import BOOL, I64, SECOND, changes, runs
from transforms.horizon import ahead

F64 = npt.NDArray[np.float64]
HALVINGS = 40


def persistent(cost: F64, starts: I64, penalty: float) -> I64:
    """Return the code of every latent, int64[T], that makes costs plus `penalty` per change least; exact, the smaller code on ties.

    Args:
        cost: float64[T, K], how badly each code fits each latent (squared distance, or reconstruction error).
        starts: int64[E + 1], first latent of each sequence, then T; a change between sequences costs nothing.
        penalty: of a change of code inside a sequence.

    Raises:
        UsageError: the penalty is negative.
    """
    if not penalty >= 0:
        raise UsageError(f"penalty={penalty} of a change must be 0 or more")
    path = np.empty(len(cost), np.int64)
    for first, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if stop > first:
            path[first:stop] = _viterbi(cost[first:stop], penalty)
    return path


def path_cost(cost: F64, path: I64, starts: I64, penalty: float) -> float:
    """Return what a path costs: what `persistent` minimises."""
    changed = changes(path)
    changed[starts[:-1][np.diff(starts) > 0]] = False
    return float(cost[np.arange(len(path)), path].sum() + penalty * changed.sum())


def distances(latent: npt.NDArray[np.floating], book: npt.NDArray[np.floating]) -> F64:
    """Return the squared distance of every latent [T, D] to every code [K, D], float64[T, K]."""
    z, c = latent.astype(np.float64), book.astype(np.float64)
    return np.maximum(np.square(z).sum(1)[:, None] - 2 * z @ c.T + np.square(c).sum(1), 0.0)


def macro_runs(path: npt.NDArray[np.integer], starts: I64) -> tuple[I64, I64]:
    """Return first latent and length of every run of equal codes int[T] or [T, N]; runs end with their sequence."""
    marks = np.zeros(len(path), bool)
    for column in path.reshape(len(path), -1).T:
        marks |= changes(column)
    marks[starts[:-1][np.diff(starts) > 0]] = True
    return runs(marks) if len(path) else (np.empty(0, np.int64), np.empty(0, np.int64))


def choose_penalty(cost: F64, starts: I64, period_s: float, wanted_s: tuple[float, float] = (0.5, 1.5)) -> float:
    """Return the penalty under which the median run lasts as nearly as possible the geometric middle of `wanted_s`.

    Longer penalties make fewer, longer runs: bisection on the penalty. Choose it on validation data and keep it.

    Args:
        cost: float64[T, K], see `persistent`.
        starts: int64[E + 1].
        period_s: seconds from one latent to the next.
        wanted_s: how short and how long the median run may be.
    """
    middle = float(np.sqrt(wanted_s[0] * wanted_s[1]))

    def median_s(penalty: float) -> float:
        return float(np.median(macro_runs(persistent(cost, starts, penalty), starts)[1])) * period_s

    low, high = 0.0, float(np.ptp(cost)) + 1e-12
    tried = {p: median_s(p) for p in (low, high)}
    for _ in range(HALVINGS):
        if tried[low] >= middle or tried[high] <= middle:
            break
        penalty = (low + high) / 2 if low == 0 or high / low < 4 else float(np.sqrt(low * high))
        tried[penalty] = median_s(penalty)
        low, high = (penalty, high) if tried[penalty] < middle else (low, penalty)
    return min(tried, key=lambda p: (abs(np.log(max(tried[p], 1e-9) / middle)), p))


def chain(t_ns: I64, starts: I64, seconds: float, count: int) -> tuple[I64, BOOL]:
    """Return for each latent the latents that follow each other from it on: int64[T, count], and bool[T]: whether all are there.

    The k-th begins k times `seconds` later, where the one before it ends.

    Args:
        t_ns: int64[T], when each latent begins, increasing inside a sequence.
        starts: int64[E + 1].
        seconds: how long one latent lasts.
        count: how many.
    """
    rows, valid = np.empty((len(t_ns), count), np.int64), np.ones(len(t_ns), bool)
    for k in range(count):
        rows[:, k], there = ahead(t_ns, starts, k * seconds)
        off = np.abs(t_ns[rows[:, k]] - t_ns - round(k * seconds * SECOND)) if len(t_ns) else np.empty(0)
        valid &= there & (off <= 0.25 * seconds * SECOND)
    return rows, valid


def _viterbi(cost: F64, penalty: float) -> I64:
    """Solve one sequence: the best path to code k either stays at k or comes from the cheapest code of all."""
    length, codes = cost.shape
    came = np.empty((length, codes), np.int64)
    best, here = cost[0].copy(), np.arange(codes)
    for t in range(1, length):
        cheapest = int(best.argmin())
        stays = best <= best[cheapest] + penalty
        came[t] = np.where(stays, here, cheapest)
        best = np.where(stays, best, best[cheapest] + penalty) + cost[t]
    path = np.empty(length, np.int64)
    path[-1] = best.argmin()
    for t in range(length - 1, 0, -1):
        path[t - 1] = came[t, path[t]]
    return path
