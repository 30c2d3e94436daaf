"""Places boundaries in one stretch of an episode: collects cues, cuts by dynamic programming, and says what each boundary was."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from annotators.segments.config import SegmentsConfig
from annotators.segments.tracks import Limb, Track
from transforms.changepoint import cut, residuals
from transforms.cues import attached, gripper_moves, jerk, minima, peaks, score, stops
from transforms.grid import I64
from transforms.rotation import F64

Cause = Literal["gripper", "object", "contact", "stop", "minimum", "jerk", "curve", "episode_end", "gap"]
type Cue = tuple[Cause, I64, float]  # kind, where, weight
_NEAR_S = 0.2


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Segments `[first[i], first[i + 1])` of a stretch of `size` samples.

    Attributes:
        first: int64[S].
        gain: float64[S] what the boundary at each start is worth; infinite for the first.
        cause: why each segment ends.
        size: samples of the stretch.
    """

    first: I64
    gain: F64
    cause: tuple[Cause, ...]
    size: int


def find_boundaries(track: Track, config: SegmentsConfig, last: Cause = "episode_end") -> Boundaries:
    """Cut one stretch; `last` is why its last segment ends."""
    cues = find_cues(track, config)
    reward = score(track.size, [(places, weight) for _, places, weight in cues], config.hz)
    paths = np.concatenate([limb.path for limb in track.limbs])
    longest = min(track.size, round(config.longest_s * config.hz))
    misfit = residuals(paths, longest, config.model) / config.hz
    found = cut(misfit, config.penalty, reward, max(1, round(config.shortest_s * config.hz)))
    causes: list[Cause] = [_cause(int(b), cues, config) for b in found.first[1:]]
    causes.append(last)
    return Boundaries(found.first, found.gain, tuple(causes), track.size)


def find_cues(track: Track, config: SegmentsConfig) -> list[Cue]:
    """Collect every cue of a stretch: its kind, where, and its weight."""
    cues: list[Cue] = []
    for limb in track.limbs:
        moves = [] if limb.opening is None else gripper_moves(limb.opening, config.hz)
        cues.append(("gripper", _places((a, b) for a, b, _ in moves), config.gripper))
        cues += _pauses(limb, config)
        if limb.place is not None:
            shaken = jerk(limb.place, config.hz)
            cues.append(("jerk", peaks(shaken, 4 * float(np.median(shaken)) + 1e-9), config.jerk))
            along = [_edges(attached(limb.place, thing, config.hz)) for thing in track.things.values()]
            for edges in along:
                cues.append(("object", edges, config.objects))
    for signal in track.touch:
        cues.append(("contact", _jumps(signal), config.contact))
    return cues


def _pauses(limb: Limb, config: SegmentsConfig) -> list[Cue]:
    pace = limb.pace
    moving = pace[pace > config.still_mps]
    usual = float(np.median(moving)) if len(moving) else 0.0
    still = stops(pace, config.hz, config.still_mps, config.shortest_s)
    first: Cue = ("stop", _places(still), config.stop)
    return [
        first,
        ("minimum", minima(pace, max(config.slow * usual, config.still_mps)), config.minimum),
    ]


def _cause(boundary: int, cues: list[Cue], config: SegmentsConfig) -> Cause:
    """Name the weightiest cue near a boundary; `curve` where only the shape of the motion changed."""
    reach = _NEAR_S * config.hz
    best: Cue = ("curve", np.empty(0, np.int64), -np.inf)
    for cue in cues:
        if len(cue[1]) and np.abs(cue[1] - boundary).min() <= reach and cue[2] > best[2]:
            best = cue
    return best[0]


def _jumps(signal: F64) -> I64:
    """Samples where a signal changes by more than six times its usual change (median), and by something at all."""
    change = np.abs(np.diff(signal, prepend=signal[:1]))
    usual = float(np.median(change[change > 0])) if (change > 0).any() else 0.0
    spread = float(np.ptp(signal)) if len(signal) else 0.0
    return peaks(np.append(change, 0.0), max(6 * usual if usual < 0.2 * spread else 0.0, 0.2 * spread, 1e-9))


def _edges(marks: np.ndarray) -> I64:
    """Samples at which a flag turns; flickers of a single sample do not count."""
    steady = marks.copy()
    steady[1:-1] = np.where(marks[:-2] == marks[2:], marks[:-2], marks[1:-1])
    return np.flatnonzero(steady[1:] != steady[:-1]) + 1


def _places(spans: Iterable[tuple[int, int]]) -> I64:
    return np.array([at for span in spans for at in span], np.int64)
