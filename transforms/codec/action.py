"""A whole action codec: normalisation, then a chunk codec, both checked. This is what an export needs to turn tokens into actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from schemas.errors import UsageError
from schemas.ids import digest
from transforms.codec.affine import Affine
from transforms.codec.base import BOOL, F64, ChunkCodec, Tokens
from transforms.codec.beast import BeastCodec
from transforms.codec.bins import BinCodec
from transforms.codec.fast import FastCodec

SCHEMES: Mapping[str, type[BinCodec | FastCodec | BeastCodec]] = {c.scheme: c for c in (BinCodec, FastCodec, BeastCodec)}


@dataclass(frozen=True, slots=True)
class Coded:
    """N coded chunks and what became of them.

    Attributes:
        tokens: the ids.
        ok: bool[N], decodes, and keeps the codec's bound.
        rmse: float64[N] error against the actions themselves, normalised units, clipping included.
        max_err: float64[N] largest error, likewise.
        saturated: float64[N] share of numbers outside the quantile range.
        decoded: float64[N, H, A] what a decoder will see, physical units.
    """

    tokens: Tokens
    ok: BOOL
    rmse: F64
    max_err: F64
    saturated: F64
    decoded: F64


@dataclass(frozen=True, slots=True)
class ActionCodec:
    """Codes chunks of physical actions, float64[N, H, A]."""

    affine: Affine
    chunks: ChunkCodec

    @property
    def stages(self) -> tuple[str, ...]:
        """Everything that happens to an action, in order; an export undoes it from the end."""
        return ("affine", *self.chunks.stages)

    def encode(self, actions: F64) -> Coded:
        """Code actions, all finite, decode them again, and measure."""
        wanted = self.affine.encode(actions, clip=self.chunks.clips)
        tokens = self.chunks.encode(wanted)
        got, ok = self.chunks.decode(tokens)
        read = ok.copy()
        ok &= self.chunks.bound.holds(wanted, got)
        error = np.abs(self.affine.encode(actions, clip=False) - got)
        error[..., self.affine.constant] = np.where(read, 0.0, np.nan)[:, None, None]  # decodes as its value, whatever was coded
        error = error.reshape(len(actions), -1)
        return Coded(
            tokens, ok, np.sqrt((error * error).mean(1)), error.max(1, initial=0.0),
            self.affine.outside(actions).reshape(len(actions), -1).mean(1), self.affine.decode(got),
        )  # fmt: skip

    def decode(self, tokens: Tokens) -> tuple[F64, BOOL]:
        """Return actions and whether each chunk could be read."""
        got, ok = self.chunks.decode(tokens)
        return self.affine.decode(got), ok

    def fingerprint(self) -> str:
        """Identify the codec."""
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, the order of stages among them."""
        return {
            "scheme": self.chunks.scheme,
            "stages": list(self.stages),
            "affine": self.affine.to_dict(),
            "chunks": self.chunks.to_dict(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            UsageError: the scheme is unknown, or its stages are not this version's.
        """
        kind = SCHEMES.get(raw["scheme"])
        if kind is None:
            raise UsageError(f"the action codec {raw['scheme']!r} is unknown; known: {', '.join(SCHEMES)}")
        codec = cls(Affine.from_dict(raw["affine"]), kind.from_dict(raw["chunks"]))
        if list(codec.stages) != list(raw["stages"]):
            raise UsageError(f"this codec was written with the stages {raw['stages']}; this cotrain does {list(codec.stages)}")
        return codec
