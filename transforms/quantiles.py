"""A mergeable summary of numbers: true quantiles from an integer histogram, mean and deviation from exact integer sums.

Everything that is kept is an integer, a minimum or a maximum, so merging is exact, in any order and under any sharding, on every
machine. The bins are DDSketch's log-spaced ones (Masson, Rim, Lee, VLDB 2019) with 256 equal bins per power of two in place of a
logarithm: a value's bin is the top of its own bit pattern, which no libm can round differently.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from schemas.ids import digest

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
ALPHA = 1 / 512  # relative error of a quantile: half a bin
EPSILON = 2.0**-20  # smaller magnitudes count as zero
_DROP = 44  # low mantissa bits that do not choose a bin: 52 - 8
_BASE = int(np.float64(EPSILON).view(np.int64)) >> _DROP
_SCALE_BITS = 32  # sums are kept in units of 2^-32
_LIMB = 21  # three limbs of 21 bits hold 63 bits; their products add up in int64 over a chunk
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Column:
    """The summary of one column of numbers.

    Attributes:
        bins: sorted `(bin, how many)` pairs; bin 0 is zero, the sign of a bin is the sign of its values.
        count: finite values.
        invalid: NaN and infinite values, left out of everything else.
        total: sum of round(x * 2^32).
        square: sum of round(x * 2^32)^2.
        low: smallest value, inf where there is none.
        high: largest value, -inf where there is none.
    """

    bins: tuple[I64, I64]
    count: int
    invalid: int
    total: int
    square: int
    low: float
    high: float

    def merge(self, other: "Column") -> "Column":
        """Return the summary of both columns' values together."""
        keys, places = np.unique(np.concatenate([self.bins[0], other.bins[0]]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, places, np.concatenate([self.bins[1], other.bins[1]]))
        return Column(
            (keys, counts), self.count + other.count, self.invalid + other.invalid, self.total + other.total,
            self.square + other.square, min(self.low, other.low), max(self.high, other.high),
        )  # fmt: skip

    @property
    def mean(self) -> float:
        """The mean, correctly rounded; NaN of no values."""
        return self.total / (self.count << _SCALE_BITS) if self.count else math.nan

    @property
    def std(self) -> float:
        """The population standard deviation; NaN of no values."""
        if not self.count:
            return math.nan
        spread = self.count * self.square - self.total**2  # of count times the deviation, squared
        return math.isqrt(spread << 128) / (self.count << _SCALE_BITS + 64)

    def quantile(self, share: float) -> float:
        """Return the value of rank floor(share * (count - 1)), within `ALPHA` of itself; NaN of no values.

        numpy calls this the `lower` quantile.
        """
        if not self.count:
            return math.nan
        rank = math.floor(share * (self.count - 1))
        place = int(np.searchsorted(np.cumsum(self.bins[1]), rank, side="right"))
        return min(max(_bin_value(int(self.bins[0][place])), self.low), self.high)


@dataclass(frozen=True, slots=True)
class Sketch:
    """Summaries of the columns of a table of numbers. `rows` counts rows, whether their values were finite or not."""

    rows: int
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Self:
        """Summarise float[n, D] (any real or boolean dtype)."""
        table = np.asarray(values)
        table = table.reshape(len(table), math.prod(table.shape[1:]))
        parts = [table[i : i + _CHUNK] for i in range(0, max(len(table), 1), _CHUNK)]
        columns = [_merged([_column(part[:, d]) for part in parts]) for d in range(table.shape[1])]
        return cls(len(table), tuple(columns))

    def merge(self, other: "Sketch") -> "Sketch":
        """Return the summary of both tables' rows together.

        Raises:
            ValueError: the tables differ in width.
        """
        pairs = zip(self.columns, other.columns, strict=True)
        return Sketch(self.rows + other.rows, tuple(a.merge(b) for a, b in pairs))

    def digest(self) -> str:
        """Return a hash of everything the sketch holds."""
        plain = [
            [c.bins[0].tolist(), c.bins[1].tolist(), c.count, c.invalid, str(c.total), str(c.square), c.low.hex(), c.high.hex()]
            for c in self.columns
        ]
        return digest([self.rows, plain])


def _merged(columns: Sequence[Column]) -> Column:
    result = columns[0]
    for column in columns[1:]:
        result = result.merge(column)
    return result


def _column(values: npt.NDArray[np.generic]) -> Column:
    every = np.asarray(values, np.float64) + 0.0  # + 0.0 makes -0.0 plain zero, so that the minimum has one bit pattern
    finite = every[np.isfinite(every)]
    count, invalid = len(finite), len(every) - len(finite)
    if not count:
        none = np.empty(0, np.int64)
        return Column((none, none), 0, invalid, 0, 0, math.inf, -math.inf)
    total, square = _sums(finite)
    return Column(_histogram(finite), count, invalid, total, square, float(finite.min()), float(finite.max()))


def _histogram(values: F64) -> tuple[I64, I64]:
    size = np.abs(values)
    keys = (size.view(np.int64) >> _DROP) - (_BASE - 1)
    keys[size < EPSILON] = 0
    np.negative(keys, out=keys, where=values < 0)
    lowest = int(keys.min())
    counts = np.bincount(keys - lowest)
    present = np.flatnonzero(counts)
    return present + lowest, counts[present]


def _bin_value(key: int) -> float:
    """Return the middle of a bin."""
    if key == 0:
        return 0.0
    pattern = ((abs(key) + _BASE - 1) << _DROP) + (1 << (_DROP - 1))
    return math.copysign(float(np.int64(pattern).view(np.float64)), key)


def _sums(values: F64) -> tuple[int, int]:
    """Return the sums of y and y^2 for y = round(x * 2^32), as exact integers of any size."""
    huge = np.abs(values) >= 2.0**30
    total = square = 0
    for value in values[huge].tolist():
        scaled = round(value * 2.0**_SCALE_BITS) if abs(value) < 2.0**900 else round(value) << _SCALE_BITS
        total, square = total + scaled, square + scaled * scaled
    scaled = np.rint(values[~huge] * 2.0**_SCALE_BITS).astype(np.int64)
    sign, rest = np.sign(scaled), np.abs(scaled)
    limbs = [(rest >> (_LIMB * i)) & ((1 << _LIMB) - 1) for i in range(3)]
    for i, a in enumerate(limbs):
        total += int((sign * a).sum()) << (_LIMB * i)
        for j, b in enumerate(limbs[: i + 1]):
            square += int((a * b).sum()) * (1 if i == j else 2) << (_LIMB * (i + j))
    return total, square
