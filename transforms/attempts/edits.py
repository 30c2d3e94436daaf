"""Edit scripts between a text and its correction: SKIP, COPY and GEN per token, as short as they can be.

Li et al., Sequence-to-Action (AAAI 2022): the script walks the raw tokens; COPY takes the next one, SKIP leaves it out, GEN writes a
new one. With the longest common subsequence copied, the numbers of GEN and SKIP are the smallest possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.errors import DataError

Op = Literal["SKIP", "COPY", "GEN"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One step of a script; `token` is what GEN writes and empty otherwise."""

    op: Op
    token: str = ""


def tokens(text: str) -> tuple[str, ...]:
    """Split a text at white space; scripts work on any tokens."""
    return tuple(text.split())


def script(raw: Sequence[str], corrected: Sequence[str]) -> tuple[Edit, ...]:
    """Return a minimal script from `raw` to `corrected`; O(len(raw) * len(corrected)).

    Where several are equally short, it copies as early as possible and skips before it generates.
    """
    length = common_length(raw, corrected)
    edits, i, j = list[Edit](), 0, 0
    while i < len(raw) or j < len(corrected):
        if i < len(raw) and j < len(corrected) and raw[i] == corrected[j] and length[i, j] == length[i + 1, j + 1] + 1:
            edits.append(Edit("COPY"))
            i, j = i + 1, j + 1
        elif i < len(raw) and length[i + 1, j] == length[i, j]:
            edits.append(Edit("SKIP"))
            i += 1
        else:
            edits.append(Edit("GEN", corrected[j]))
            j += 1
    return tuple(edits)


def replay(edits: Sequence[Edit], raw: Sequence[str]) -> tuple[str, ...]:
    """Apply a script.

    Raises:
        DataError: the script copies or skips past the end of `raw`, or leaves some of it unread.
    """
    made, at = list[str](), 0
    for edit in edits:
        if edit.op == "GEN":
            made.append(edit.token)
            continue
        if at >= len(raw):
            raise DataError(f"the script wants token {at} of a text of {len(raw)}; it belongs to another text")
        if edit.op == "COPY":
            made.append(raw[at])
        at += 1
    if at != len(raw):
        raise DataError(f"the script reads {at} of {len(raw)} tokens; it belongs to another text")
    return tuple(made)


def common_length(raw: Sequence[str], corrected: Sequence[str]) -> np.ndarray:
    """Return int64[len(raw) + 1, len(corrected) + 1]: length of the longest common subsequence of the two tails from (i, j)."""
    length = np.zeros((len(raw) + 1, len(corrected) + 1), np.int64)
    for i in range(len(raw) - 1, -1, -1):
        for j in range(len(corrected) - 1, -1, -1):
            same = raw[i] == corrected[j]
            length[i, j] = length[i + 1, j + 1] + 1 if same else max(length[i + 1, j], length[i, j + 1])
    return length


def over_correction(edits: Sequence[Edit], raw: Sequence[str], corrected: Sequence[str]) -> float:
    """Return `1 - copies / LCS`: 0 for a script that keeps all it can; 0 also where there is nothing to keep."""
    best = int(common_length(raw, corrected)[0, 0])
    return 1 - sum(e.op == "COPY" for e in edits) / best if best else 0.0
