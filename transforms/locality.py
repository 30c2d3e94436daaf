"""A seeded permutation that stays near: blocks are shuffled, then the items of every `window` consecutive blocks among themselves.

A block is a run of consecutive items: an episode, or a fixed number of steps. One block per window reads block after block; as
many as there are is a global shuffle. Between them a batch touches about `window` blocks, whose packets and keyframes are then
read once for many samples. Costs one integer per listed block, and nothing per item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb, lgamma

import numpy as np
import numpy.typing as npt

from transforms.permutation import Permutation, permutation

I64 = npt.NDArray[np.int64]
EXACT_BELOW = 1 << 10  # binomials this small are computed exactly


@dataclass(frozen=True, eq=False)
class ListedBlocks:
    """Blocks of given sizes, at least one item each."""

    sizes: I64

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.sizes)

    @cached_property
    def starts(self) -> I64:
        """First item of each block and the end of the last, int64[blocks + 1]."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def start(self, blocks: I64) -> I64:
        """Return the first item of each block."""
        return self.starts[blocks]

    def laid_out(self, order: Permutation) -> tuple[Callable[[I64], I64], Callable[[I64], I64]]:
        """Return, for blocks in that order: items before each rank, and the rank that holds each place."""
        before = np.concatenate([[0], np.cumsum(self.sizes[order(np.arange(len(self)))])]).astype(np.int64)
        return before.__getitem__, lambda places: np.searchsorted(before, places, side="right") - 1


@dataclass(frozen=True, eq=False)
class EvenBlocks:
    """Blocks of `run` items each, the last one what is left: arithmetic only."""

    items: int
    run: int

    def __len__(self) -> int:
        """Number of blocks."""
        return (self.items + self.run - 1) // self.run

    def start(self, blocks: I64) -> I64:
        """Return the first item of each block."""
        return blocks * self.run

    def laid_out(self, order: Permutation) -> tuple[Callable[[I64], I64], Callable[[I64], I64]]:
        """Return, for blocks in that order: items before each rank, and the rank that holds each place."""
        missing = len(self) * self.run - self.items
        short = int(order.inverse([len(self) - 1])[0])  # the rank of the incomplete block; all others are whole
        end = (short + 1) * self.run - missing

        def before(ranks: I64) -> I64:
            return ranks * self.run - missing * (ranks > short)

        def rank_of(places: I64) -> I64:
            return (places + missing * (places >= end)) // self.run

        return before, rank_of


type Blocks = ListedBlocks | EvenBlocks


@dataclass(frozen=True, eq=False)
class LocalPermutation:
    """A bijection on the items of `blocks`; call it with places, get items. See the module's text."""

    blocks: Blocks
    window: int
    key: bytes

    def __call__(self, places: npt.ArrayLike) -> I64:
        """Return the item at each place, int64 of the same length.

        Raises:
            IndexError: a place is outside the items.
        """
        at = np.asarray(places, np.int64).reshape(-1)
        count = len(self.blocks)
        size = int(self._before(np.array([count]))[0])
        if len(at) and (at.min() < 0 or at.max() >= size):
            raise IndexError(f"places {at.min()} to {at.max()} are not all inside range({size})")
        windows = self._rank_of(at) // self.window
        bounds = np.minimum(np.stack([windows, windows + 1]) * self.window, count)
        firsts, ends = self._before(bounds[0]), self._before(bounds[1])
        inner = np.empty_like(at)
        for number in np.unique(windows).tolist():
            mine = np.flatnonzero(windows == number)
            first, end = int(firsts[mine[0]]), int(ends[mine[0]])
            shuffle = permutation(end - first, self.key + b"/window/%d" % number)
            inner[mine] = first + shuffle(at[mine] - first)
        ranks = self._rank_of(inner)
        return self.blocks.start(self._order(ranks)) + inner - self._before(ranks)

    @cached_property
    def _order(self) -> Permutation:
        return permutation(len(self.blocks), self.key + b"/blocks")

    @cached_property
    def _layout(self) -> tuple[Callable[[I64], I64], Callable[[I64], I64]]:
        return self.blocks.laid_out(self._order)

    @property
    def _before(self) -> Callable[[I64], I64]:
        return self._layout[0]

    @property
    def _rank_of(self) -> Callable[[I64], I64]:
        return self._layout[1]


@lru_cache(maxsize=64)
def local_permutation(blocks: Blocks, window: int, key: bytes) -> LocalPermutation:
    """Return the permutation that `key` names, built once; `blocks` must be the same object to be found again.

    Raises:
        ValueError: `window` is below 1.
    """
    if window < 1:
        raise ValueError(f"a window needs at least one block, not {window}")
    return LocalPermutation(blocks, window, key)


def expected_blocks(sizes: npt.ArrayLike, draws: int) -> float:
    """Return how many distinct blocks of a window `draws` items drawn from it without repetition touch, on average.

    Hypergeometric: sum over blocks b of 1 - C(n - n_b, draws) / C(n, draws), with n the items of the window.
    """
    counts = np.asarray(sizes, np.int64)
    whole = int(counts.sum())
    if draws >= whole:
        return float(np.count_nonzero(counts))
    values, times = np.unique(counts, return_counts=True)
    return sum(int(t) * (1 - _missed(whole, int(n), draws)) for n, t in zip(values, times, strict=True))


def _missed(whole: int, block: int, draws: int) -> float:
    """Chance that none of `draws` of `whole` items lies in a block of `block`."""
    rest = whole - block
    if draws > rest:
        return 0.0
    if whole < EXACT_BELOW:
        return comb(rest, draws) / comb(whole, draws)
    logs = lgamma(rest + 1) - lgamma(rest - draws + 1) - lgamma(whole + 1) + lgamma(whole - draws + 1)
    return float(np.exp(logs))
