"""The first stage of every action codec: true quantiles to [-1, 1], dimension by dimension, and back.

`y = 2 (a - low) / (high - low) - 1`, where low and high are the 1 % and 99 % quantiles of a mergeable sketch of the training split.
Dimensions with two values (grippers) use their extremes instead, so that both values are exact; so do dimensions that hardly move
for their size, because the sketch knows quantiles to a share of the value. A dimension whose quantiles coincide says nothing: it codes
as 0, decodes as its value, and is flagged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from schemas.errors import UsageError
from schemas.ids import digest
from transforms.codec.base import BOOL, F64
from transforms.quantiles import ALPHA, Column, Sketch

_NARROW = 32 * ALPHA


@dataclass(frozen=True)
class Affine:
    """One affine map per dimension.

    Attributes:
        low: float[A], what becomes -1.
        high: float[A], what becomes 1; equal to `low` where the dimension does not vary.
        binary: bool[A], dimensions with exactly two values.
        sketch: hash of the statistics these numbers came from.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    binary: tuple[bool, ...] = ()
    sketch: str = ""

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be inverted.

        Raises:
            UsageError: lengths differ, or a range is not finite or turned round.
        """
        if len(self.low) != len(self.high) or (self.binary and len(self.binary) != len(self.low)):
            raise UsageError(f"a codec's ranges must be equally long, not {len(self.low)} and {len(self.high)}")
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self._low <= self._high).all()):
            raise UsageError(f"a codec's ranges must be finite and ordered, not {list(self.low)} to {list(self.high)}")

    @classmethod
    def fit(cls, sketch: Sketch, shares: tuple[float, float] = (0.01, 0.99)) -> Self:
        """Take the ranges from a sketch of the actions.

        Raises:
            UsageError: a column of the sketch holds no finite number.
        """
        low, high, binary = list[float](), list[float](), list[bool]()
        for place, column in enumerate(sketch.columns):
            if not column.count:
                raise UsageError(f"dimension {place} of these actions has no finite value; nothing can be fitted to it")
            two = _has_two_values(column)
            whole = two or column.high - column.low <= _NARROW * max(abs(column.low), abs(column.high))
            ends = (column.low, column.high) if whole else (column.quantile(shares[0]), column.quantile(shares[1]))
            low.append(float(ends[0]))
            high.append(float(ends[1]))
            binary.append(two)
        return cls(tuple(low), tuple(high), tuple(binary), sketch.digest())

    @property
    def dims(self) -> int:
        """A."""
        return len(self.low)

    @cached_property
    def constant(self) -> BOOL:
        """Dimensions that do not vary, bool[A]."""
        return self._low == self._high

    @cached_property
    def half_width(self) -> F64:
        """Physical units per normalised unit, float64[A]; 0 where constant."""
        return (self._high - self._low) / 2

    def encode(self, actions: F64, *, clip: bool) -> F64:
        """Return float64[..., A] in normalised units; inside [-1, 1] with `clip`."""
        width = np.where(self.constant, 1.0, self._high - self._low)
        y = np.where(self.constant, 0.0, 2 * (actions - self._low) / width - 1)
        return np.clip(y, -1.0, 1.0) if clip else y

    def decode(self, y: F64) -> F64:
        """Return float64[..., A] in physical units."""
        return self._low + (y + 1) * self.half_width

    def outside(self, actions: F64) -> BOOL:
        """Tell which values, bool[..., A], lie outside their range: those a clipping codec changes. NaN lies outside."""
        slack = 1e-9 * np.maximum(np.abs(self._low), np.abs(self._high)) + 1e-12
        return ~((actions >= self._low - slack) & (actions <= self._high + slack))

    def fingerprint(self) -> str:
        """Identify the map."""
        return digest(["affine", [v.hex() for v in self.low], [v.hex() for v in self.high], list(self.binary)])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(_floats(raw["low"]), _floats(raw["high"]), tuple(bool(b) for b in raw["binary"]), str(raw["sketch"]))

    @cached_property
    def _low(self) -> F64:
        return np.array(self.low, np.float64)

    @cached_property
    def _high(self) -> F64:
        return np.array(self.high, np.float64)


def _has_two_values(column: Column) -> bool:
    """Tell whether all values are one of the two extremes: then, and only then, the variance is (mean - low) (high - mean)."""
    width = column.high - column.low
    return width > 0 and abs(column.std**2 - (column.mean - column.low) * (column.high - column.mean)) <= 1e-6 * width**2


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
