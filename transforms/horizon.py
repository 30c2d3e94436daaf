"""What lies a given time ahead of each step, and what to do where the episode ends before that: never a silent clip."""

from typing import Literal

import numpy as np

from transforms.grid import BOOL, I64, SECOND

Boundary = Literal["invalid", "clip"]
HORIZON_PAST_END = "horizon_past_end"  # the reason such a row carries


def ahead(t_ns: I64, starts: I64, seconds: float, boundary: Boundary = "invalid") -> tuple[I64, BOOL]:
    """Find, for each step, the step of its episode that is nearest to `seconds` later (earlier, if negative).

    An instant counts as inside the episode up to half a median period beyond its first and last step.

    Args:
        t_ns: int64[T] step times, increasing inside an episode.
        starts: int64[E + 1] first step of each episode, then T.
        seconds: how far to look.
        boundary: `invalid` marks steps whose instant lies outside the episode as not valid; `clip` says that they are.

    Returns:
        Row of the step found, int64[T] (the episode's last or first one where the instant is outside), and bool[T] valid.
    """
    found, valid = np.empty(len(t_ns), np.int64), np.empty(len(t_ns), bool)
    offset = round(seconds * SECOND)
    for first, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        t = t_ns[first:stop]
        wanted = t + offset
        right = np.minimum(np.searchsorted(t, wanted), len(t) - 1)
        left = np.maximum(right - 1, 0)
        found[first:stop] = first + np.where(wanted - t[left] <= t[right] - wanted, left, right)
        half = int(np.median(np.diff(t))) // 2 if len(t) > 1 else 0
        valid[first:stop] = (wanted <= t[-1] + half) & (wanted >= t[0] - half)
    return found, valid | (boundary == "clip")
