"""What every chunk codec is: an exact integer stage, a declared bound, and a decoder that says whether it could read its input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]
BOOL = npt.NDArray[np.bool_]
Norm = Literal["max", "l2"]
SLACK = 1e-9  # relative: bounds are exact in real numbers, floats round


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of N chunks laid end to end: chunk i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: U16
    offsets: I64

    @classmethod
    def of(cls, rows: Sequence[npt.ArrayLike]) -> Self:
        """Lay lists of ids end to end."""
        parts = [np.asarray(r, np.uint16) for r in rows]
        offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64)
        return cls(np.concatenate(parts) if parts else np.empty(0, np.uint16), offsets)

    @property
    def counts(self) -> I64:
        """Tokens per chunk, int64[N]."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> U16:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest error a codec allows, in normalised units (the quantile range is 2 wide).

    Attributes:
        norm: `max` over the entries of a chunk, or `l2` over all of them.
        value: the bound.
        proven: it follows from the arithmetic; otherwise it is demanded, and chunks that miss it are said to.
    """

    norm: Norm
    value: float
    proven: bool = True

    def errors(self, wanted: F64, got: F64) -> F64:
        """Return the error of each chunk, float64[N], in this norm; both float64[N, H, A]."""
        gap = (wanted - got).reshape(len(wanted), -1)
        return np.sqrt((gap * gap).sum(1)) if self.norm == "l2" else np.abs(gap).max(1, initial=0.0)

    def holds(self, wanted: F64, got: F64) -> BOOL:
        """Tell which chunks keep the bound; NaN keeps none."""
        return self.errors(wanted, got) <= self.value * (1 + SLACK) + 1e-12


class ChunkCodec(Protocol):
    """Codes normalised chunks float64[N, H, A]. Implementations are frozen dataclasses.

    Attributes:
        scheme: its name in files and settings.
        stages: what it does after normalisation, in order; decoding undoes them from the end.
        clips: whether it wants its input clipped to [-1, 1] first; otherwise it codes what lies outside too.
    """

    scheme: ClassVar[str]
    stages: ClassVar[tuple[str, ...]]
    clips: ClassVar[bool]

    @property
    def bound(self) -> Bound:
        """The bound that every chunk is checked against."""
        ...

    @property
    def size(self) -> int:
        """How many different tokens there are; ids are below it."""
        ...

    def encode(self, chunks: F64) -> Tokens:
        """Code normalised chunks, float64[N, H, A], all finite."""
        ...

    def decode(self, tokens: Tokens) -> tuple[F64, BOOL]:
        """Return chunks float64[N, H, A] and whether each could be read; what could not is NaN, never a number made up."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        ...

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        ...
