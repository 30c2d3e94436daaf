"""FAST (Pertsch et al., 2025): an orthonormal DCT-II over time, rounded, low frequencies of all dimensions first, byte-pair merged.

Everything a decoder needs is in the header: H, A, scale, the alphabet's ends, the vocabulary. Two tokens are added to FAST's: ESCAPE
carries a coefficient outside the alphabet, and END says that all further coefficients are zero; so nothing is clamped, a cut-off
stream does not decode, and the long tail of zeros costs neither tokens nor time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from schemas.errors import UsageError
from transforms.codec import bpe
from transforms.codec.base import BOOL, F64, I64, Bound, Tokens
from transforms.codec.bpe import Vocabulary
from transforms.spread import spread

_REACH = 1 << 31  # coefficients beyond this are not actions
SAMPLE = 50_000  # chunks a vocabulary is learnt from at most


@dataclass(frozen=True)
class FastCodec:
    """Codes whole chunks.

    Attributes:
        horizon: H.
        dims: A.
        scale: integers per normalised unit of a coefficient; 10 is FAST's own.
        vocabulary: alphabet and merges.
    """

    horizon: int
    dims: int
    scale: float
    vocabulary: Vocabulary
    scheme: ClassVar[str] = "fast"
    stages: ClassVar[tuple[str, ...]] = ("dct", "round", "flatten", "escape", "bpe")
    clips: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.dims < 1 or not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"FAST needs steps, dimensions and a scale above 0, not {self.horizon}, {self.dims}, {self.scale}")
        if self.vocabulary.size + 2 > 1 << 16:
            raise UsageError(f"a vocabulary of {self.vocabulary.size} tokens leaves no id below 65536 for ESCAPE and END")

    @property
    def bound(self) -> Bound:
        """Every coefficient is within half an integer, and the DCT keeps lengths: l2 error at most sqrt(H A) / (2 scale)."""
        return Bound("l2", math.sqrt(self.horizon * self.dims) / (2 * self.scale))

    @property
    def escape(self) -> int:
        """Id of ESCAPE: the next `digits` tokens are the zig-zag coded integer in base `symbols`, highest digit first."""
        return self.vocabulary.size

    @property
    def end(self) -> int:
        """Id of END: all further coefficients of the chunk are zero."""
        return self.vocabulary.size + 1

    @property
    def size(self) -> int:
        """The vocabulary, ESCAPE and END."""
        return self.vocabulary.size + 2

    @cached_property
    def digits(self) -> int:
        """How many symbols spell an escaped coefficient."""
        return math.ceil(33 / math.log2(self.vocabulary.symbols))

    def encode(self, chunks: F64) -> Tokens:
        """Code normalised chunks, float64[N, H, A].

        Raises:
            UsageError: a coefficient is beyond 2^31; such numbers are no normalised actions.
        """
        return self.encode_integers(coefficients(chunks, self.scale))

    def decode(self, tokens: Tokens) -> tuple[F64, BOOL]:
        """Return chunks; one that is cut off, too long or holds an unknown id is NaN and not ok."""
        integers, ok = self.decode_integers(tokens)
        chunks = np.matmul(dct_matrix(self.horizon).T, integers.reshape(-1, self.horizon, self.dims) / self.scale)
        chunks[~ok] = np.nan
        return chunks, ok

    def encode_integers(self, integers: I64) -> Tokens:
        """Code coefficients int64[N, H * A]: the lossless half of the codec."""
        low, high = self.vocabulary.low, self.vocabulary.high
        strange = (integers < low) | (integers > high)
        width = integers.shape[1]
        used = width - np.argmax(integers[:, ::-1] != 0, axis=1)
        used[~(integers != 0).any(1)] = 0
        text = self.vocabulary.spell(np.where(strange, max(low, min(high, 0)), integers).reshape(-1))
        bounds = [(i * width, i * width + n) for i, n in enumerate(used.tolist())]
        coded = self.vocabulary.encode(text, bounds)
        for row in np.flatnonzero(strange.any(1)).tolist():
            coded[row] = self._escaped(integers[row, : used[row]], np.flatnonzero(strange[row, : used[row]]))
        for row in np.flatnonzero(used < width).tolist():
            coded[row].append(self.end)
        counts = np.fromiter((len(c) for c in coded), np.int64, len(coded))
        ids = np.fromiter((i for c in coded for i in c), np.uint16, int(counts.sum()))
        return Tokens(ids, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def decode_integers(self, tokens: Tokens) -> tuple[I64, BOOL]:
        """Undo `encode_integers`; rows that cannot be read are zero and not ok."""
        integers = np.zeros((len(tokens), self.horizon * self.dims), np.int64)
        ok = np.zeros(len(tokens), np.bool_)
        for row in range(len(tokens)):
            found = self._read(tokens[row].tolist())
            if found is not None:
                integers[row], ok[row] = found, True
        return integers, ok

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the header."""
        return {"horizon": self.horizon, "dims": self.dims, "scale": self.scale, "vocabulary": self.vocabulary.to_dict()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(int(raw["horizon"]), int(raw["dims"]), float(raw["scale"]), Vocabulary.from_dict(raw["vocabulary"]))

    def _escaped(self, integers: I64, places: I64) -> list[int]:
        """Code one row that leaves the alphabet at `places`."""
        ids: list[int] = []
        for before, here in pairwise([-1, *places.tolist(), len(integers)]):
            piece = integers[before + 1 : here]
            ids += self.vocabulary.encode(self.vocabulary.spell(piece), [(0, len(piece))])[0] if len(piece) else []
            if here < len(integers):
                value = int(integers[here])
                rest, spelt = (value << 1) ^ (value >> 63), list[int]()
                for _ in range(self.digits):
                    rest, digit = divmod(rest, self.vocabulary.symbols)
                    spelt.append(digit)
                ids += [self.escape, *spelt[::-1]]
        return ids

    def _read(self, ids: list[int]) -> I64 | None:
        """Return int64[H * A] of one row, or None where it cannot be read."""
        width, pieces, plain, at = self.horizon * self.dims, list[I64](), list[int](), 0
        while at < len(ids):
            if ids[at] < self.vocabulary.size:
                plain.append(ids[at])
                at += 1
                continue
            pieces.append(self.vocabulary.expand(plain))
            plain = []
            if ids[at] == self.end:
                short = sum(len(p) for p in pieces) < width
                padded = np.concatenate([*pieces, np.zeros(width, np.int64)])[:width]
                return padded if short and at == len(ids) - 1 else None
            spelt = ids[at + 1 : at + 1 + self.digits]
            if ids[at] != self.escape or len(spelt) < self.digits or max(spelt) >= self.vocabulary.symbols:
                return None
            value = 0
            for digit in spelt:
                value = value * self.vocabulary.symbols + digit
            pieces.append(np.array([(value >> 1) ^ -(value & 1)], np.int64))
            at += 1 + self.digits
        found = np.concatenate([*pieces, self.vocabulary.expand(plain)])
        return found if len(found) == width else None


def dct_matrix(count: int) -> F64:
    """Return the orthonormal DCT-II, float64[H, H]; its transpose undoes it."""
    k, i = np.arange(count)[:, None], np.arange(count)[None]
    matrix = np.cos(np.pi * (i + 0.5) * k / count) * math.sqrt(2 / count)
    matrix[0] /= math.sqrt(2)
    return matrix


def coefficients(chunks: F64, scale: float) -> I64:
    """Return the rounded DCT of chunks float64[N, H, A], int64[N, H * A], frequency first.

    Raises:
        UsageError: a coefficient is beyond 2^31.
    """
    found = np.rint(np.matmul(dct_matrix(chunks.shape[1]) * scale, chunks))
    if found.size and not float(np.abs(found).max()) < _REACH:
        raise UsageError(f"a coefficient of {float(np.abs(found).max()):g} is no normalised action; check the codec's ranges")
    return found.astype(np.int64).reshape(len(chunks), -1)


def learn(chunks: list[I64], size: int = 1024, min_frequency: int = 2) -> Vocabulary:
    """Learn a vocabulary from rounded coefficients, a list of int64[n, H * A] (H and A may differ); trailing zeros are left to END.

    Raises:
        UsageError: there are none, or `size` does not hold their alphabet.
    """
    filled = [c for c in chunks if c.size]
    if not filled:
        raise UsageError("no chunk to learn a vocabulary from; record more, or shorten the horizon")
    low, high = min(int(c.min()) for c in filled), max(int(c.max()) for c in filled)
    low, high = min(low, -1), max(high, 1)
    rows = [np.trim_zeros(row, "b") for c in filled for row in c[spread(len(c), max(SAMPLE // len(filled), 1))]]
    return bpe.train(rows, low, high, size, min_frequency)
