"""Choosing a few places out of many, evenly spread: the first and the last are among them."""

import numpy as np
import numpy.typing as npt


def spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of the places `0 .. count - 1`, rising and evenly spread: int64[min(count, most)]."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
