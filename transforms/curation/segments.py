"""Cuts an episode into movements: at rests, at slow moments between two movements, and where a gripper opens or closes.

Scores are taken per movement and then summarised, so that a longer episode is not a worse one.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from transforms.curation.signals import Signals
from transforms.grid import runs

SMOOTH_S, SHORTEST_S, LONGEST_S = 0.3, 0.4, 4.0
REST, PROMINENCE = 0.1, 0.25  # of the 90th percentile of speed

Span = tuple[int, int]  # [first, stop) samples of the even clock


def movements(signals: Signals) -> list[Span]:
    """Return the movements of an episode as spans of its even clock.

    The speed is smoothed over 0.3 s first, so that tremor does not cut a movement into pieces. Movements under 0.4 s are dropped,
    those over 4 s are cut evenly.
    """
    width = max(1, round(SMOOTH_S * signals.hz))
    speed = np.convolve(np.pad(signals.speed, (width // 2, width - 1 - width // 2), mode="edge"), np.ones(width) / width, "valid")
    top = float(np.quantile(speed, 0.9)) if len(speed) else 0.0
    if not top > 0:
        return []
    moving = speed > REST * top
    cut = np.zeros(len(speed), bool)
    cut[valleys(speed, PROMINENCE * top)] = True
    for grip in signals.grips:
        even = np.interp(signals.even_ns, signals.t_ns, grip.opening) > 0.5
        cut[1:] |= even[1:] != even[:-1]
    changed = cut.copy()
    changed[1:] |= moving[1:] != moving[:-1]
    first, length = runs(changed)
    shortest = max(4, round(SHORTEST_S * signals.hz))
    whole = [(int(a), int(a + n)) for a, n in zip(first, length, strict=True) if moving[a] and n >= shortest]
    return [piece for span in whole for piece in _even(span, round(LONGEST_S * signals.hz))]


def spans_of_times(signals: Signals, times: list[tuple[int, int]]) -> list[Span]:
    """Turn `[start_ns, end_ns)` spans of an annotation into spans of the even clock; those under 0.4 s are dropped."""
    shortest = max(4, round(SHORTEST_S * signals.hz))
    found: list[Span] = []
    for start, end in times:
        a, b = np.searchsorted(signals.even_ns, [start, end]).tolist()
        if b - a >= shortest:
            found.append((a, b))
    return found


def valleys(speed: npt.NDArray[np.floating], depth: float) -> list[int]:
    """Return where a profile is lowest between two rises of at least `depth` above that; both sides must rise so far."""
    found: list[int] = []
    low = high = 0
    falling = False
    for i, v in enumerate(speed.tolist()):
        if falling:
            low = i if v < speed[low] else low
            if v >= speed[low] + depth:
                found.append(low)
                falling, high = False, i
        else:
            high = i if v > speed[high] else high
            if v <= speed[high] - depth:
                falling, low = True, i
    return found


def _even(span: Span, longest: int) -> list[Span]:
    start, stop = span
    parts = -(-(stop - start) // max(longest, 1))
    edges = np.linspace(start, stop, parts + 1).astype(int).tolist()
    return list(pairwise(edges))
