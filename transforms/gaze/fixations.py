"""Where the eye rests: fixations and saccades in samples of gaze, by velocity (I-VT) or by dispersion (I-DT).

Salvucci and Goldberg, ETRA 2000; the window over which velocity is taken and the joining of neighbours follow Olsen, Tobii 2012. Times
are seconds, so a recording at 10 Hz and one at 200 Hz mean the same. Places are either unit rays, and then distances are degrees, or
points in a picture, and then they are shares of its width.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from transforms.gaze.geometry import angle_deg
from transforms.grid import BOOL, I64, SECOND
from transforms.rotation import F64

Method = Literal["ivt", "idt"]
NOT = -1  # the number of a sample that is in no fixation
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class FixationRule:
    """When a look is a fixation.

    Attributes:
        method: `ivt` or `idt`.
        speed: I-VT: at most this fast, degrees (or widths) per second.
        extent: I-DT: at most this large, the sum of both sides of the box around it, degrees (or widths).
        window_s: I-VT: velocity is taken over so long a window where there are samples that close.
        least_s: shorter ones are none.
        join_s: two that are no further apart in time than this, and
        join: in space than this, are one.
        gap_s: samples further apart than this (or than 1.5 usual periods, if that is longer) belong to no common fixation.
    """

    method: Method = "ivt"
    speed: float = 30.0
    extent: float = 1.5
    window_s: float = 0.03
    least_s: float = 0.1
    join_s: float = 0.075
    join: float = 0.5
    gap_s: float = 0.075


def find_fixations(t_ns: I64, place: F64, known: BOOL, rule: FixationRule) -> I32:
    """Number the fixations of one episode.

    Args:
        t_ns: int64[N], increasing.
        place: float64[3, N] unit rays, or float64[2, N] points in widths of the picture.
        known: bool[N], samples that were tracked.
        rule: see `FixationRule`.

    Returns:
        int32[N]: 0, 1, ... in order, -1 where a sample is in no fixation.
    """
    result = np.full(len(t_ns), NOT, np.int32)
    rows = np.flatnonzero(known)
    if not len(rows):
        return result
    t, p = np.asarray((t_ns[rows] - t_ns[rows[0]]) * (1 / SECOND), np.float64), place[:, rows]
    period = float(np.median(np.diff(t))) if len(t) > 1 else 0.0
    broken = np.concatenate([[True], np.diff(t) > max(rule.gap_s, 1.5 * period)])
    spans = _slow(t, p, broken, rule, period) if rule.method == "ivt" else _narrow(t, p, broken, rule)
    spans = _joined(spans, t, p, broken, rule)
    kept = [(a, b) for a, b in spans if t[b - 1] - t[a] + period >= rule.least_s - 1e-9]
    for number, (a, b) in enumerate(kept):
        result[rows[a:b]] = number
    return result


def velocity(t: F64, place: F64, broken: BOOL, window_s: float) -> F64:
    """Return how fast gaze moves at each sample, degrees (or widths) per second, float64[N].

    Between the samples half a window before and after, and at least the neighbours; never across a break. A lone sample has speed 0.
    """
    run = np.cumsum(broken)
    starts = np.searchsorted(run, run)
    stops = np.searchsorted(run, run, side="right")
    at = np.arange(len(t))
    left = np.maximum(np.minimum(np.searchsorted(t, t - window_s / 2 - 1e-9), at - 1), starts)
    right = np.minimum(np.maximum(np.searchsorted(t, t + window_s / 2 + 1e-9, side="right") - 1, at + 1), stops - 1)
    span = t[right] - t[left]
    return np.where(span > 0, distance(place[:, left], place[:, right]) / np.where(span > 0, span, 1.0), 0.0)


def distance(one: F64, other: F64) -> F64:
    """Return degrees between rays float64[3, N], or widths between points float64[2, N]."""
    return angle_deg(one, other) if len(one) == 3 else np.hypot(*(one - other))


def centroid(place: F64) -> F64:
    """Return the mean of places float64[D, N]; of rays, as a unit ray."""
    mean = place.mean(1)
    return mean / np.linalg.norm(mean) if len(mean) == 3 else mean


def _slow(t: F64, p: F64, broken: BOOL, rule: FixationRule, period: float) -> list[tuple[int, int]]:
    """I-VT: runs of slow samples. Where samples are further apart than half the least fixation, a step is judged, not a sample."""
    if period > rule.least_s / 2:
        step = np.concatenate([[np.inf], distance(p[:, :-1], p[:, 1:]) / np.maximum(np.diff(t), 1e-9)])
        return [s for s in _runs(broken | (step > rule.speed), np.ones(len(t), bool)) if s[1] - s[0] > 1]
    slow = velocity(t, p, broken, rule.window_s) <= rule.speed
    return _runs(broken | np.concatenate([[True], slow[1:] != slow[:-1]]), slow)


def _runs(begins: BOOL, keep: BOOL) -> list[tuple[int, int]]:
    first = np.flatnonzero(begins)
    stop = np.append(first[1:], len(begins))
    return [(a, b) for a, b in zip(first.tolist(), stop.tolist(), strict=True) if keep[a]]


def _narrow(t: F64, p: F64, broken: BOOL, rule: FixationRule) -> list[tuple[int, int]]:
    """I-DT: grow a window while the box around it stays small; one long enough to begin with is a fixation."""
    flat = p if len(p) == 2 else np.degrees(np.stack([np.arctan2(p[0], p[2]), np.arctan2(p[1], np.hypot(p[0], p[2]))]))
    x, y, seconds, breaks = flat[0].tolist(), flat[1].tolist(), t.tolist(), broken.tolist()
    found: list[tuple[int, int]] = []
    at, count = 0, len(seconds)
    while at < count:
        stop, low, high = at, [x[at], y[at]], [x[at], y[at]]
        while stop < count and not (stop > at and breaks[stop]):
            wider = [min(low[0], x[stop]), min(low[1], y[stop])], [max(high[0], x[stop]), max(high[1], y[stop])]
            if sum(wider[1]) - sum(wider[0]) > rule.extent:
                break
            (low, high), stop = wider, stop + 1
        if stop > at + 1 and seconds[stop - 1] - seconds[at] >= rule.least_s - 1e-9:
            found.append((at, stop))
            at = stop
        else:
            at += 1
    return found


def _joined(spans: list[tuple[int, int]], t: F64, p: F64, broken: BOOL, rule: FixationRule) -> list[tuple[int, int]]:
    """Join neighbours that are close in time and space, unless the recording breaks between them."""
    kept: list[tuple[int, int]] = []
    for a, b in spans:
        if kept:
            first, last = kept[-1]
            close = t[a] - t[last - 1] <= rule.join_s and not broken[last : a + 1].any()
            if close and float(distance(centroid(p[:, first:last])[:, None], centroid(p[:, a:b])[:, None])[0]) <= rule.join:
                kept[-1] = (first, b)
                continue
        kept.append((a, b))
    return kept
