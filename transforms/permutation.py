"""A seeded permutation of `range(n)` in O(1) memory, for any n below 2^63.

A Feistel network on Z_a x Z_b with a = ceil(sqrt(n)), b = ceil(n / a), walked until it lands inside the range (Black and Rogaway,
"Ciphers with arbitrary finite domains", CT-RSA 2002). Every round is invertible, so it is a bijection for every n; integer
arithmetic only, so it is the same on every machine. It shuffles, it does not encrypt.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
ROUNDS, SMALL_ROUNDS, SMALL = 8, 12, 1 << 10  # tiny domains need more rounds to be uniform over permutations


@dataclass(frozen=True, slots=True)
class Permutation:
    """A bijection on `range(size)`; build it with `permutation`."""

    size: int
    rows: int
    columns: int
    keys: tuple[int, ...]

    def __call__(self, positions: npt.ArrayLike) -> I64:
        """Return the item at each position, int64 of the same length.

        Raises:
            IndexError: a position is outside `range(size)`.
        """
        return self._walk(positions, self._forward)

    def inverse(self, items: npt.ArrayLike) -> I64:
        """Return the position of each item, int64 of the same length.

        Raises:
            IndexError: an item is outside `range(size)`.
        """
        return self._walk(items, self._backward)

    def _walk(self, values: npt.ArrayLike, step: Callable[[U64], U64]) -> I64:
        given = np.asarray(values, np.int64).reshape(-1)
        if len(given) and (given.min() < 0 or given.max() >= self.size):
            raise IndexError(f"positions {given.min()} to {given.max()} are not all inside range({self.size})")
        result = step(given.astype(np.uint64))
        outside = np.flatnonzero(result >= np.uint64(self.size))
        while len(outside):
            result[outside] = step(result[outside])
            outside = outside[result[outside] >= np.uint64(self.size)]
        return result.astype(np.int64)

    def _forward(self, values: U64) -> U64:
        rows, columns = np.uint64(self.rows), np.uint64(self.columns)
        left, right = np.divmod(values, columns)
        for turn, key in enumerate(self.keys):
            if turn % 2 == 0:
                _add(left, _mix(right ^ np.uint64(key)) % rows, rows)
            else:
                _add(right, _mix(left ^ np.uint64(key)) % columns, columns)
        return left * columns + right

    def _backward(self, values: U64) -> U64:
        rows, columns = np.uint64(self.rows), np.uint64(self.columns)
        left, right = np.divmod(values, columns)
        for turn in reversed(range(len(self.keys))):
            key = np.uint64(self.keys[turn])
            if turn % 2 == 0:
                _add(left, rows - _mix(right ^ key) % rows, rows)
            else:
                _add(right, columns - _mix(left ^ key) % columns, columns)
        return left * columns + right


@lru_cache(maxsize=1024)
def permutation(size: int, key: bytes) -> Permutation:
    """Return the permutation of `range(size)` that `key` names; 8 rounds, 12 below 1024 items.

    Raises:
        ValueError: `size` is below 1 or above 2^63 - 1.
    """
    if not 1 <= size < 1 << 63:
        raise ValueError(f"a permutation needs 1 to 2^63 - 1 items, not {size}")
    rows = math.isqrt(size - 1) + 1
    rounds = SMALL_ROUNDS if size < SMALL else ROUNDS
    stream = hashlib.shake_256(key).digest(8 * rounds)
    keys = tuple(int.from_bytes(stream[8 * j : 8 * j + 8], "little") for j in range(rounds))
    return Permutation(size, rows, -(-size // rows), keys)


def _mix(x: U64) -> U64:
    """splitmix64's finaliser (Steele, Lea, Flood 2014), in place."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def _add(target: U64, amount: U64, modulus: np.uint64) -> None:
    """Add modulo `modulus` in place. Below the modulus the subtraction wraps around to something huge, so the minimum keeps it."""
    target += amount
    np.minimum(target, target - modulus, out=target)
