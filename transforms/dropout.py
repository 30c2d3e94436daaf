"""Conditions that samples do without: which, by a counter-based draw per condition, and what is left of a window without its past."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.mixture import DropoutSpec
from transforms.goals import drawn_unit

CONDITIONS = ("language", "goal", "history")


def dropped(spec: DropoutSpec, *sample_id: str | int) -> dict[str, bool]:
    """Return for each condition with a chance whether the sample does without it; each is an independent draw, fixed by the id."""
    chances = {name: getattr(spec, name) for name in CONDITIONS}
    return {name: drawn_unit("dropout", name, *sample_id) < chance for name, chance in chances.items() if chance}


def without_past(
    values: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_], offsets_ns: Sequence[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return a window [K, ...] and its padding bool[K] with everything before the anchor zero and padding; the originals stay."""
    past = np.asarray(offsets_ns) < 0
    kept = values.copy()
    kept[past] = 0
    return kept, is_pad | past
