"""256 uniform bins per number, as RT-2 and OpenVLA have them: `linspace(-1, 1, 256)` edges, decoded to the middle of a bin.

Ids are `digitize(y) - 1`, 0 to 255; the last one is y = 1 itself, which decodes like its neighbour, as in OpenVLA's tokenizer. A
constant dimension always has the id of 0. A model's vocabulary puts id i at `vocabulary - 1 - i`: see `to_vocabulary`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from schemas.errors import UsageError
from transforms.codec.base import BOOL, F64, U16, Bound, Tokens


@dataclass(frozen=True, slots=True)
class BinCodec:
    """Codes every number of a chunk on its own: H * A tokens, time first.

    Attributes:
        horizon: H.
        dims: A.
        edges: how many edges; there is one bin fewer.
    """

    horizon: int
    dims: int
    edges: int = 256
    scheme: ClassVar[str] = "bins"
    stages: ClassVar[tuple[str, ...]] = ("clip", "digitize")
    clips: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.dims < 1 or not 3 <= self.edges <= 1 << 16:
            raise UsageError(f"bins need at least one step and dimension and 3 to 65536 edges, not {asdict(self)}")

    @property
    def bound(self) -> Bound:
        """Half a bin."""
        return Bound("max", 1 / (self.edges - 1))

    @property
    def size(self) -> int:
        """As many ids as edges."""
        return self.edges

    def encode(self, chunks: F64) -> Tokens:
        """Code chunks in [-1, 1], float64[N, H, A]."""
        ids = (np.digitize(chunks.reshape(len(chunks), -1), np.linspace(-1, 1, self.edges)) - 1).astype(np.uint16)
        return Tokens(ids.reshape(-1), np.arange(len(chunks) + 1, dtype=np.int64) * self.horizon * self.dims)

    def decode(self, tokens: Tokens) -> tuple[F64, BOOL]:
        """Return the bins' middles; a chunk of the wrong length or with an unknown id is NaN and not ok."""
        found = np.full((len(tokens), self.horizon, self.dims), np.nan)
        ok = tokens.counts == self.horizon * self.dims
        for row in np.flatnonzero(ok):
            ids = tokens[row]
            ok[row] = len(ids) == 0 or int(ids.max()) < self.edges
        grid = np.linspace(-1, 1, self.edges)
        middles = np.append((grid[:-1] + grid[1:]) / 2, (grid[-2] + grid[-1]) / 2)
        keep = np.repeat(ok, tokens.counts)
        found[ok] = middles[tokens.ids[keep]].reshape(-1, self.horizon, self.dims)
        return found, ok

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**raw)


def to_vocabulary(ids: U16, vocabulary: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Put ids at the end of a language model's vocabulary, highest id lowest: neighbours stay neighbours (OpenVLA)."""
    return vocabulary - 1 - ids.astype(np.int64)


def from_vocabulary(words: np.ndarray[Any, np.dtype[np.int64]], vocabulary: int) -> U16:
    """Undo `to_vocabulary`.

    Raises:
        UsageError: a word is not one of the last 65536 of the vocabulary.
    """
    ids = vocabulary - 1 - np.asarray(words, np.int64)
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= 1 << 16):
        raise UsageError(
            f"words {int(np.min(words))} to {int(np.max(words))} are not action words of a vocabulary of {vocabulary}"
        )
    return ids.astype(np.uint16)
