"""Keys of a memory in whole numbers of 8 bits, for a first pass that reads half as much and multiplies in the processor's integer units.

Every row has a scale of its own, `key = scale * code + rest`, and so has every query. A score of codes is off by at most
`|rest| |query| + |scale * code| |rest of the query|` (Cauchy-Schwarz); both lengths are measured, so a search that allows for them loses
nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
TOP = 127  # largest code
BLOCK = 1 << 15  # rows multiplied at once: their scores stay in the cache
_PART = 1 << 10  # rows encoded at once
WIDEST = 1 << 16  # numbers per key whose products cannot leave 32 bits
ROUNDING = 2.0**-20  # of float32, over scaling and measuring


@dataclass(frozen=True, slots=True)
class Codes:
    """What `encode` made of keys.

    Attributes:
        blocks: packed codes of `BLOCK` rows each, and their scales, tensors.
        rows: number of keys.
        longest: largest Euclidean length of `scale * code`.
        rest: largest Euclidean length of what the codes leave out.
    """

    blocks: tuple[tuple[Any, Any], ...]
    rows: int
    longest: float
    rest: float

    def scores(self, queries: F32) -> tuple[F64, Iterator[tuple[int, Any]]]:
        """Score every key against finite queries, float32[Q, D].

        Returns:
            By how much a score of each query can be off, float64[Q]; and for each block its first row and its scores, a float32 tensor
            [Q, rows]. Both are in units of the query's own scale, which orders rows as the query does.
        """
        import torch

        asked = queries.astype(np.float64)
        largest = np.abs(asked).max(axis=1, keepdims=True)
        asked *= TOP / np.where(largest > 0, largest, 1.0)
        codes = np.rint(asked)
        left = np.linalg.norm(asked - codes, axis=1)
        length = np.linalg.norm(asked, axis=1)
        off = self.rest * length + self.longest * (left + ROUNDING * (length + left))
        return off * (1 + ROUNDING), self._multiplied(torch.from_numpy(codes.astype(np.int8)))

    def _multiplied(self, asked: Any) -> Iterator[tuple[int, Any]]:
        for at, (packed, scale) in enumerate(self.blocks):
            start = at * BLOCK
            yield start, _multiply(asked, packed, scale)[:, : self.rows - start]


def encode(keys: F16) -> Codes | None:
    """Return the codes of float16[N, D], finite, may be mapped; None where the processor or this torch gains nothing by them."""
    if not len(keys) or keys.shape[1] > WIDEST or not supported():
        return None
    import torch

    blocks, longest, rest = list[tuple[Any, Any]](), 0.0, 0.0
    for start in range(0, len(keys), BLOCK):
        codes, scale = torch.zeros(BLOCK, keys.shape[1], dtype=torch.int8), torch.ones(BLOCK)
        for a in range(start, min(start + BLOCK, len(keys)), _PART):
            part = torch.from_numpy(keys[a : min(a + _PART, start + BLOCK)].astype(np.float32))
            mine = slice(a - start, a - start + len(part))
            own = (part.abs().amax(dim=1) / TOP).where(part.any(dim=1), torch.ones(()))
            near = (part / own[:, None]).round_()
            codes[mine], scale[mine] = near.to(torch.int8), own
            near *= own[:, None]
            longest = max(longest, float(near.norm(dim=1).max()))
            rest = max(rest, float(part.sub_(near).norm(dim=1).max()))
        blocks.append((_packed(codes), scale))
    return Codes(tuple(blocks), len(keys), longest, rest + ROUNDING * longest)


@cache
def supported() -> bool:
    """Tell whether whole numbers of 8 bits are multiplied exactly and fast: the processor has the instructions, and torch a way to them."""
    import torch

    random = torch.Generator().manual_seed(0)
    keys, asked = (torch.randint(-TOP, TOP + 1, (n, 80), generator=random, dtype=torch.int8) for n in (64, 3))
    keys[0], asked[0] = TOP, TOP
    try:
        if not torch.cpu._is_vnni_supported():  # without them, sums of two products may saturate
            return False
        found = _multiply(asked, _packed(keys), torch.ones(64))
    except (AttributeError, RuntimeError, TypeError):  # another processor, or another torch
        return False
    return bool((found == asked.float() @ keys.float().T).all())


def _packed(codes: Any) -> Any:
    """Return int8[n, D] in the order oneDNN multiplies from."""
    import torch

    return torch.ops.onednn.qlinear_prepack(codes, [32, codes.shape[1]])


def _multiply(asked: Any, packed: Any, scale: Any) -> Any:
    """Return float32[Q, n]: int8[Q, D] times packed codes, each column times its scale."""
    import torch

    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        asked, 1.0, 0, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )  # fmt: skip
