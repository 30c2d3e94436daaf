"""Signs that one movement ends and another begins: what hands, speeds, contacts and objects tell. One episode on an even grid at a time."""

import numpy as np

from transforms.grid import BOOL, I64, changes, runs
from transforms.rotation import F64

MOVES_AT = 0.25  # of the whole opening per second: slower is drift
LEAST_MOVE = 0.1  # of the whole opening


def gripper_moves(opening: F64, hz: float, debounce_s: float = 0.2) -> list[tuple[int, int, float]]:
    """Find when a gripper opens or closes: `(first, stop, change)`, change in fractions of the opening, positive for opening.

    Pauses shorter than `debounce_s` are bridged, unless the direction turns; changes of less than a tenth of the opening are none.
    """
    step = np.diff(opening, append=opening[-1:]) * hz
    sign = np.where(np.abs(step) > MOVES_AT, np.sign(step), 0).astype(np.int8)
    first, length = runs(changes(sign))
    found: list[tuple[int, int, int]] = []
    for at, n in zip(first.tolist(), length.tolist(), strict=True):
        way = int(sign[at])
        if not way:
            continue
        if found and found[-1][2] == way and at - found[-1][1] < debounce_s * hz:
            found[-1] = (found[-1][0], at + n, way)
        else:
            found.append((at, at + n, way))
    last = len(opening) - 1
    moves = [(a, min(b, last), float(opening[min(b, last)] - opening[a])) for a, b, _ in found]
    return [m for m in moves if abs(m[2]) >= LEAST_MOVE and m[1] > m[0]]


def holding(opening: F64, moves: list[tuple[int, int, float]]) -> BOOL:
    """Tell when a gripper is closed on something or nothing: bool[T], from the end of a closing move to the start of an opening one."""
    held = np.zeros(len(opening), bool)
    for at, (_, stop, change) in enumerate(moves):
        until = moves[at + 1][0] if at + 1 < len(moves) else len(opening)
        held[stop:until] = change < 0
    return held


def stops(speed: F64, hz: float, below: float, least_s: float) -> list[tuple[int, int]]:
    """Find stretches `[first, stop)` in which `speed` stays under `below` for at least `least_s`."""
    still = speed < below
    first, length = runs(changes(still))
    return [(a, a + n) for a, n in zip(first.tolist(), length.tolist(), strict=True) if still[a] and n >= least_s * hz]


def minima(speed: F64, below: float) -> I64:
    """Samples at which `speed` has a local minimum under `below`; the middle one of a flat bottom. Ends do not count."""
    bottoms = _bottoms(speed)
    return bottoms[speed[bottoms] < below]


def peaks(signal: F64, above: float) -> I64:
    """Samples at which `signal` has a local maximum over `above`."""
    return minima(-signal, -above)


def jerk(position: F64, hz: float) -> F64:
    """Length of the third derivative of float64[D, T], per second cubed; zero at the two samples next to the ends."""
    third = np.zeros(position.shape[1])
    if position.shape[1] > 4:
        x = position
        third[2:-2] = np.linalg.norm((x[:, 4:] - 2 * x[:, 3:-1] + 2 * x[:, 1:-3] - x[:, :-4]) / 2, axis=0) * hz**3
    return third


def attached(hand: F64, thing: F64, hz: float, moves: float = 0.02, slips: float = 0.3) -> BOOL:
    """Tell when an object moves along with a hand, bool[T].

    Both are positions float64[3, T], metres. It does when it moves faster than `moves` (m/s) and the vector from hand to object
    changes at less than `slips` times that speed.
    """
    speed = _speed(thing, hz)
    return (speed > moves) & (_speed(thing - hand, hz) < slips * np.maximum(speed, 1e-9))


def score(size: int, cues: list[tuple[I64, float]], hz: float, reach_s: float = 0.2, apart_s: float = 0.4) -> F64:
    """Add up weighted cues and keep what stands out, float64[size].

    Every cue counts where it is and, falling off, `reach_s` around it; of samples closer than `apart_s` only the best stays.
    """
    reach = max(1, round(reach_s * hz))
    total = np.zeros(size + 2 * reach)
    shape = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    for places, weight in cues:
        bump = np.zeros_like(total)
        for at in places[(places > 0) & (places < size)]:
            span = slice(at, at + 2 * reach + 1)
            bump[span] = np.maximum(bump[span], weight * shape)  # two of one kind close by are one
        total += bump
    return suppress(total[reach : size + reach], round(apart_s * hz))


def suppress(signal: F64, apart: int) -> F64:
    """Keep the highest samples that lie at least `apart` from a higher one, zero the others."""
    kept, blocked = np.zeros_like(signal), np.zeros(len(signal), bool)
    for at in np.argsort(-signal, kind="stable"):
        if signal[at] <= 0:
            break
        if not blocked[at]:
            kept[at] = signal[at]
            blocked[max(0, at - apart + 1) : at + apart] = True
    return kept


def _speed(p: F64, hz: float) -> F64:
    return np.linalg.norm(np.gradient(p, axis=1), axis=0) * hz if p.shape[1] > 1 else np.zeros(p.shape[1])


def _bottoms(signal: F64) -> I64:
    """Middles of the flat or pointed bottoms inside a sequence."""
    if len(signal) < 3:
        return np.empty(0, np.int64)
    first, length = runs(changes(signal))
    value = signal[first]
    low = np.flatnonzero((value[1:-1] < value[:-2]) & (value[1:-1] < value[2:])) + 1
    return first[low] + (length[low] - 1) // 2
