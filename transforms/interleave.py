"""Turns shares into an order of sources: integer quotas over a period, laid out so that every prefix is fair.

The layout is Tijdeman's chairman assignment ("The chairman assignment problem", Discrete Mathematics 32, 1980): after any t draws
each source has been drawn within 1 - 1/(2S - 2) of its exact share.
"""

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

PERIOD = 1 << 16
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Interleave:
    """One period of draws, repeated for ever.

    Attributes:
        quotas: int64[S], draws of each source per period.
        table: int32[Q], the source of each slot.
        rank: int32[Q], how often that source occurs before the slot.
    """

    quotas: I64
    table: I32
    rank: I32

    @property
    def period(self) -> int:
        """Number of slots Q."""
        return len(self.table)

    def locate(self, draws: I64) -> tuple[I64, I64]:
        """Return for each draw number its source and how many draws of that source come before it, both int64."""
        turn, slot = np.divmod(draws, self.period)
        source = self.table[slot].astype(np.int64)
        return source, turn * self.quotas[source] + self.rank[slot]

    def counts(self, draws: int) -> I64:
        """Return how often each source occurs among the first `draws`, int64[S]."""
        turns, rest = divmod(draws, self.period)
        return turns * self.quotas + np.bincount(self.table[:rest], minlength=len(self.quotas))


def quantise(
    weights: npt.ArrayLike, period: int = PERIOD, *, least: npt.ArrayLike | None = None, most: npt.ArrayLike | None = None
) -> I64:
    """Round shares to whole slots of a period by largest remainder (Hamilton).

    Args:
        weights: float[S], 0 or more; scaled to add up to 1.
        period: number of slots Q.
        least: int[S], fewest slots per source; a source of weight above 0 always gets one.
        most: int[S], most slots per source; exceeded, by one slot, only where the period cannot be filled otherwise.

    Returns:
        int64[S] that add up to `period`.

    Raises:
        UsageError: no weight is above 0, or there are more sources than slots.
    """
    given = np.asarray(weights, np.float64)
    used = given > 0
    if not used.any() or not np.isfinite(given).all() or (given < 0).any():
        raise UsageError(f"the weights {given.tolist()} cannot be shares: give finite numbers, at least one above 0")
    if used.sum() > period:
        raise UsageError(f"{int(used.sum())} sources do not fit a period of {period} draws; merge some of them")
    exact = given / given.sum() * period
    low = np.maximum(used.astype(np.int64), 0 if least is None else np.asarray(least, np.int64))
    high = np.where(used, np.full(len(given), period) if most is None else np.asarray(most, np.int64), 0)
    low = np.minimum(low, np.maximum(high, used))
    quotas = np.clip(np.floor(exact).astype(np.int64), low, np.maximum(high, low))
    while quotas.sum() < period:
        room = used & (quotas < high)
        quotas[_extreme(exact - quotas, room if room.any() else used)] += 1
    while quotas.sum() > period:
        room = quotas > low
        quotas[_extreme(quotas - exact, room if room.any() else quotas > 1)] -= 1
    return quotas


@lru_cache(maxsize=32)
def interleave(quotas: tuple[int, ...]) -> Interleave:
    """Lay out one period of `sum(quotas)` slots.

    Raises:
        UsageError: the quotas are negative or all zero.
    """
    if min(quotas, default=0) < 0 or not any(quotas):
        raise UsageError(f"quotas {quotas} are no shares: at least one must be above 0 and none below")
    present = [i for i, q in enumerate(quotas) if q]
    table = np.asarray(present, np.int32)[_chairman([quotas[i] for i in present])]
    rank = np.empty(len(table), np.int32)
    for source in present:
        slots = np.flatnonzero(table == source)
        rank[slots] = np.arange(len(slots), dtype=np.int32)
    for array in (table, rank):
        array.flags.writeable = False  # shared by every plan with these quotas
    return Interleave(np.asarray(quotas, np.int64), table, rank)


def _chairman(quotas: list[int]) -> npt.NDArray[np.intp]:
    """Earliest deadline first over Tijdeman's release and deadline times; index into `quotas` per slot."""
    period, count = sum(quotas), len(quotas)
    order = np.zeros(period, np.intp)
    if count == 1:
        return order
    c = 2 * count - 2
    waiting = [(-(-period // (c * q)), i, 0) for i, q in enumerate(quotas)]  # (release, source, how many before)
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int]] = []
    for slot in range(1, period + 1):
        while waiting and waiting[0][0] <= slot:
            _, source, before = heapq.heappop(waiting)
            deadline = -(-(period * (c * before + c - 1)) // (c * quotas[source]))
            heapq.heappush(ready, (deadline, source, before))
        _, source, before = heapq.heappop(ready)
        order[slot - 1] = source
        if before + 1 < quotas[source]:
            release = -(-(period * (c * (before + 1) + 1)) // (c * quotas[source]))
            heapq.heappush(waiting, (release, source, before + 1))
    return order


def _extreme(score: npt.NDArray[np.float64], among: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(np.where(among, score, -np.inf)))
