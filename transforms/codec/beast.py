"""BEAST (Zhou et al., 2025): a clamped B-spline per dimension, its control points in 256 bins. A fixed number of tokens per chunk.

Control points are the ridge solution `W = (B'B + lambda I)^-1 B'X`. Two-valued dimensions (grippers) are no curves: they travel as
bits, eight steps to a token. A clamped spline is a convex combination of its control points, so quantising them moves no point of
the curve further than half a bin; how well the spline fits is the data's matter, so the bound on the whole is demanded, not proven.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from schemas.errors import UsageError
from transforms.codec.base import BOOL, F64, I64, Bound, Tokens
from transforms.codec.spline import basis

RIDGE = 1e-6


@dataclass(frozen=True)
class BeastCodec:
    """Codes curves by control points and switches by bits.

    Attributes:
        horizon: H.
        dims: A.
        points: control points per dimension.
        switches: the two-valued dimensions.
        degree: of the spline.
        levels: bins a control point falls in.
        reach: control points are coded in [-reach, reach]; they overshoot the curve.
        tolerance: the largest error of any number that a chunk may have, normalised.
    """

    horizon: int
    dims: int
    points: int
    switches: tuple[int, ...] = ()
    degree: int = 3
    levels: int = 256
    reach: float = 2.0
    tolerance: float = 0.1
    scheme: ClassVar[str] = "beast"
    stages: ClassVar[tuple[str, ...]] = ("split_switches", "spline", "digitize")
    clips: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.degree < self.points <= self.horizon:
            raise UsageError(f"{self.points} control points for {self.horizon} steps; use {self.degree + 1} to {self.horizon}")
        if not 2 <= self.levels <= 1 << 16 or self.reach < 1 or self.tolerance <= 0:
            raise UsageError(
                f"levels {self.levels}, reach {self.reach}, tolerance {self.tolerance}: use 2 to 65536, 1 or more, above 0"
            )
        if any(not 0 <= s < self.dims for s in self.switches):
            raise UsageError(f"switches {self.switches} are not dimensions of {self.dims}")

    @property
    def bound(self) -> Bound:
        """`tolerance`."""
        return Bound("max", self.tolerance, proven=False)

    @property
    def half_bin(self) -> float:
        """How far quantisation alone may move the curve: proven."""
        return self.reach / (self.levels - 1)

    @property
    def size(self) -> int:
        """Levels, at least the 256 that eight bits need."""
        return max(self.levels, 256 if self.switches else 0)

    @cached_property
    def curves(self) -> tuple[int, ...]:
        """The dimensions that are curves."""
        return tuple(d for d in range(self.dims) if d not in self.switches)

    @property
    def count(self) -> int:
        """Tokens per chunk."""
        return len(self.curves) * self.points + len(self.switches) * -(-self.horizon // 8)

    def encode(self, chunks: F64) -> Tokens:
        """Code normalised chunks, float64[N, H, A]; dimension by dimension, points in order, then the switches."""
        levels = self.levels_of(self.fit(chunks[:, :, self.curves]))
        bits = np.packbits(chunks[:, :, self.switches] > 0, axis=1)  # [N, ceil(H / 8), S]
        parts = [levels.transpose(0, 2, 1).reshape(len(chunks), -1), bits.transpose(0, 2, 1).reshape(len(chunks), -1)]
        ids = np.concatenate(parts, axis=1).astype(np.uint16)
        return Tokens(ids.reshape(-1), np.arange(len(chunks) + 1, dtype=np.int64) * self.count)

    def decode(self, tokens: Tokens) -> tuple[F64, BOOL]:
        """Return chunks; one of the wrong length or with an unknown id is NaN and not ok."""
        chunks = np.full((len(tokens), self.horizon, self.dims), np.nan)
        ok = tokens.counts == self.count
        ids = tokens.ids[np.repeat(ok, tokens.counts)].reshape(-1, self.count).astype(np.int64)
        cut = len(self.curves) * self.points
        known = (ids[:, :cut] < self.levels).all(1) & (ids[:, cut:] < 256).all(1)
        ids, rows = ids[known], np.flatnonzero(ok)[known]
        ok[:] = False
        ok[rows] = True
        if not len(rows):
            return chunks, ok
        points = self.points_of(ids[:, :cut].reshape(-1, len(self.curves), self.points).transpose(0, 2, 1))
        packed = ids[:, cut:].astype(np.uint8).reshape(len(ids), len(self.switches), -(-self.horizon // 8)).transpose(0, 2, 1)
        found = np.empty((len(ids), self.horizon, self.dims))
        found[:, :, self.curves] = np.matmul(basis(self.horizon, self.points, self.degree), points)
        found[:, :, self.switches] = np.unpackbits(packed, axis=1, count=self.horizon) * 2.0 - 1
        chunks[rows] = found
        return chunks, ok

    def fit(self, curves: F64) -> F64:
        """Return the control points of curves float64[N, H, C], float64[N, points, C]."""
        design = basis(self.horizon, self.points, self.degree)
        solve = np.linalg.solve(design.T @ design + RIDGE * np.eye(self.points), design.T)
        return np.asarray(np.matmul(solve, curves), np.float64)

    def fit_after(self, curves: F64, before: F64) -> F64:
        """Return control points that continue a curve without a jump: the first is `before`, float64[N, C], and is not transmitted.

        The curve starts where the last chunk ended, one step before this one's first; see `curve_after`. Returns
        float64[N, points - 1, C].
        """
        design = basis(self.horizon + 1, self.points, self.degree)[1:]
        rest = design[:, 1:]
        solve = np.linalg.solve(rest.T @ rest + RIDGE * np.eye(self.points - 1), rest.T)
        return np.matmul(solve, curves - design[:, :1] * before[:, None, :])

    def curve_after(self, points: F64, before: F64) -> F64:
        """Return the curve float64[N, H, C] of what `fit_after` returned."""
        design = basis(self.horizon + 1, self.points, self.degree)[1:]
        return np.matmul(design, np.concatenate([before[:, None, :], points], axis=1))

    def levels_of(self, points: F64) -> I64:
        """Return the level nearest to each control point; those beyond `reach` take the last one."""
        step = 2 * self.reach / (self.levels - 1)
        return np.clip(np.rint((points + self.reach) / step), 0, self.levels - 1).astype(np.int64)

    def points_of(self, levels: I64) -> F64:
        """Return the control points of levels."""
        return levels.astype(np.float64) * (2 * self.reach / (self.levels - 1)) - self.reach

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        values: dict[str, Any] = {**raw, "switches": tuple(raw["switches"])}
        return cls(**values)
