"""Which way does it move? Rates over a window in seconds, and the decision which axes of motion are on.

The rule is in physical time and physical units, so that a trajectory gets the same label at 5 and at 50 Hz; compare `transforms.ecot`,
whose windows are counted in frames. Signals are float64[axes, samples] of several episodes laid end to end on a `Grid`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.grid import BOOL, I64, Grid, changes, runs
from transforms.rotation import F64, apply, conjugate, log, multiply

I8 = npt.NDArray[np.int8]
FREE = -1  # group of an axis that the share rule leaves alone


@dataclass(frozen=True, slots=True)
class RateRule:
    """Thresholds of the `rate` rule; seconds, metres, radians, and fractions.

    Attributes:
        rate_hz: the clock on which decisions are made.
        smooth_s: length of the Savitzky-Golay window.
        window_s: the motion labelled at t is the one from t to t + window_s.
        v_on: a translation is on above this speed, m/s.
        w_on: a rotation or joint is on above this speed, rad/s.
        share: and above this share of the summed speed of its group.
        off: a stretch is on as far as it stays above this fraction of both thresholds.
        min_s: an axis that is on for less is off.
        merge_s: a pause shorter than this is bridged.
        grip_on: a gripper moves if its opening (0..1) changes by more than this over the window.
        base_v_on: a mobile base drives above this speed, m/s.
        base_w_on: a mobile base turns above this speed, rad/s.
        command_on: an axis given in fractions of full scale is on above this mean command.
        max_gap_s: steps further apart than this are not bridged.
        min_margin: steps whose label hangs on less than this fraction of a threshold are `near_threshold`; 0 labels every step.
        boundary: at the end of an episode, steps whose window would leave it are `invalid`, or the window is made to `shrink`,
            down to `min_s`.
    """

    rate_hz: float = 30.0
    smooth_s: float = 0.6
    window_s: float = 0.6
    v_on: float = 0.05
    w_on: float = 0.25
    share: float = 0.25
    off: float = 0.9
    min_s: float = 0.2
    merge_s: float = 0.15
    grip_on: float = 0.1
    base_v_on: float = 0.05
    base_w_on: float = 0.1
    command_on: float = 0.1
    max_gap_s: float = 0.5
    min_margin: float = 0.0
    boundary: Literal["invalid", "shrink"] = "invalid"

    def __post_init__(self) -> None:
        positive = ("rate_hz", "window_s", "v_on", "w_on", "grip_on", "base_v_on", "base_w_on", "command_on", "max_gap_s")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above zero")
        for name in ("share", "off", "min_margin"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)} is a fraction and must lie in 0..1")
        for name in ("smooth_s", "min_s", "merge_s"):
            if not 0 <= getattr(self, name) <= 10:
                raise UsageError(f"{name}={getattr(self, name)} is in seconds and must lie in 0..10")
        if self.boundary not in ("invalid", "shrink"):
            raise UsageError(f"boundary={self.boundary!r} is unknown; use 'invalid' or 'shrink'")

    @property
    def smooth_samples(self) -> int:
        """Length of the smoothing window in samples, odd."""
        return round(self.smooth_s * self.rate_hz) // 2 * 2 + 1

    @property
    def window_samples(self) -> int:
        """Length of the motion window in samples."""
        return max(1, round(self.window_s * self.rate_hz))


@dataclass(frozen=True, slots=True)
class Windows:
    """The window that starts at each sample.

    `stop` int64[G] is its last sample, `seconds` float64[G] its length, `past_end` bool[G] whether it would leave the episode.
    """

    stop: I64
    seconds: F64
    past_end: BOOL

    def touch(self, marks: BOOL, grid: Grid, margin: int) -> BOOL:
        """Return bool[G]: whether the window, widened by `margin` samples, holds a marked sample of its episode."""
        count = np.concatenate([[0], np.cumsum(marks)])
        lengths = np.diff(grid.starts)
        first = np.maximum(np.arange(grid.size) - margin, np.repeat(grid.starts[:-1], lengths))
        last = np.minimum(self.stop + margin + 1, np.repeat(grid.starts[1:], lengths))
        return count[last] > count[first]


def make_windows(grid: Grid, rule: RateRule) -> Windows:
    """Place the window of each sample and mark those that would leave their episode."""
    wanted, remaining = rule.window_samples, grid.remaining()
    least = wanted if rule.boundary == "invalid" else min(wanted, max(1, round(rule.min_s * grid.rate_hz)))
    length = np.minimum(wanted, remaining)
    return Windows(np.arange(grid.size) + length, np.maximum(length, 1) / grid.rate_hz, remaining < least)


def velocities(p: F64, windows: Windows) -> F64:
    """Mean velocity over each window: (p(t + w) - p(t)) / w, float64[D, G]."""
    return differences(p, windows) / windows.seconds


def differences(p: F64, windows: Windows) -> F64:
    """Change over each window: p(t + w) - p(t), float64[D, G]."""
    result = np.take(p, windows.stop, 1)
    result -= p
    return result


def angular_velocities(q: F64, windows: Windows) -> F64:
    """Mean angular velocity over each window, rad/s, in the axes of the moving body: Log(R(t)^T R(t + w)) / w, float64[3, G].

    The log map has no wrap, so a step over yaw = pi is the small turn that it is.
    """
    return log(multiply(conjugate(q), np.take(q, windows.stop, 1))) / windows.seconds


def body_velocities(p: F64, q: F64, windows: Windows) -> F64:
    """Mean velocity over each window in the axes that the body has at its start: R(t)^T (p(t + w) - p(t)) / w."""
    return apply(conjugate(q), velocities(p, windows))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When each axis counts as moving.

    Attributes:
        on: float64[A] absolute thresholds.
        group: int64[A] axes whose speeds are summed for the share rule; `FREE` for none.
        off: float64[A] fraction of its threshold down to which an axis stays on.
        share: the least share of its group's summed speed.
    """

    on: F64
    group: I64
    off: F64
    share: float

    def groups(self) -> list[I64]:
        """Return the rows of each group that the share rule applies to."""
        return [np.flatnonzero(self.group == name) for name in np.unique(self.group[self.group != FREE])]


def needs(rates: F64, limits: Thresholds) -> F64:
    """Return float64[A, G]: the speed each axis must exceed, max(on, share * summed speed of its group)."""
    result = np.repeat(limits.on[:, None], rates.shape[1], 1)
    for rows in limits.groups():
        total = np.abs(rates[rows[0]])
        for row in rows[1:]:
            total += np.abs(rates[row])
        total *= limits.share
        for row in rows:
            np.maximum(result[row], total, out=result[row])
    return result


def decide(rates: F64, need: F64, limits: Thresholds, starts: I64, ok: BOOL) -> I8:
    """Decide which axes are on, with hysteresis: int8[A, G] of -1, 0, 1.

    A stretch of one direction above `off` times its need is on as a whole if any sample of it exceeds the need: the same forwards
    and backwards in time. Where no axis of a group exceeds its need although one exceeds its absolute threshold, the strongest does:
    the share rule never silences a whole group.

    Args:
        rates: float64[A, G].
        need: float64[A, G] from `needs`.
        limits: thresholds per axis.
        starts: int64[E + 1] episodes.
        ok: bool[G]; nothing is on where false.
    """
    size = np.abs(rates)
    with np.errstate(invalid="ignore"):
        hit = (size > need) & ok
        stay = (size > need * limits.off[:, None]) & ok
        _strongest(hit, size, limits, ok)
        sign = np.sign(rates)
    sign = np.nan_to_num(sign).astype(np.int8)
    sign *= stay | hit
    flat, begins = sign.reshape(-1), np.zeros(sign.shape, bool)
    begins[:, starts[:-1]] = True
    first, length = runs(changes(flat) | begins.reshape(-1))
    on = np.logical_or.reduceat(hit.reshape(-1), first) if len(first) else np.empty(0, bool)
    return np.repeat(np.where(on, flat[first], np.int8(0)), length).reshape(sign.shape)


def clean(signs: I8, starts: I64, *, min_samples: int, merge_samples: int) -> I8:
    """Bridge short pauses between equal signs, then drop short runs, per axis and episode: int8[A, G].

    Args:
        signs: int8[A, G].
        starts: int64[E + 1].
        min_samples: runs shorter than this go.
        merge_samples: pauses shorter than this are bridged.
    """
    flat, begins = signs.reshape(-1), np.zeros(signs.shape, bool)
    begins[:, starts[:-1]] = True
    begins = begins.reshape(-1)
    first, length = runs(changes(flat) | begins)
    value, opens = flat[first], begins[first]
    pause = (value == 0) & (length < merge_samples) & ~opens
    pause[1:-1] &= (value[:-2] == value[2:]) & ~opens[2:]
    pause[:1] = pause[-1:] = False
    before = np.concatenate([value[:1], value[:-1]])
    value = np.where(pause, before, value)
    joined, _ = runs(changes(value) | opens)
    total = np.add.reduceat(length, joined) if len(joined) else length
    value = np.where(total < min_samples, 0, value[joined]).astype(np.int8)
    return np.repeat(value, total).reshape(signs.shape)


def margins(rates: F64, need: F64, off: F64, signs: I8, starts: I64) -> F64:
    """Distance to the nearest change of mind, float64[G]: the least over axes of |speed - threshold| / threshold.

    The threshold is `need` where the axis is off and `off * need` where it is on. A stretch above `off * need` is on only because
    its fastest sample passed `need`, or off because none did: every sample of it is as sure as that sample, at most.
    """
    strength = np.abs(rates)
    strength /= need
    above = strength > off[:, None]
    flat, begins = (above * np.sign(rates).astype(np.int8)).reshape(-1), np.zeros(above.shape, bool)
    begins[:, starts[:-1]] = True
    first, length = runs(changes(flat) | begins.reshape(-1))
    peak = np.abs(np.maximum.reduceat(strength.reshape(-1), first) - 1) if len(first) else np.empty(0)
    peak[flat[first] == 0] = np.inf
    strength /= np.where(signs != 0, off[:, None], 1.0)
    strength -= 1
    np.minimum(np.abs(strength, out=strength), np.repeat(peak, length).reshape(above.shape), out=strength)
    return strength.min(axis=0)


def _strongest(hit: BOOL, size: F64, limits: Thresholds, ok: BOOL) -> None:
    """Turn on, in place, the strongest axis of each group in which none is on and one exceeds its absolute threshold."""
    for rows in limits.groups():
        if limits.share * len(rows) < 1:
            continue  # the strongest of n axes holds at least 1/n of the sum, so the share rule cannot silence it
        silent = np.flatnonzero(~hit[rows].any(0) & ok)
        if not len(silent):
            continue
        scaled = np.nan_to_num(size[np.ix_(rows, silent)] / limits.on[rows, None])
        best = np.argmax(scaled, 0)
        hit[rows[best], silent] = scaled[best, np.arange(len(silent))] > 1


def fold_base(signs: I8, rates: F64, on: F64) -> tuple[I8, F64]:
    """Fold a base's three axes (forward, left, turn left) into one: the strongest that is on.

    Args:
        signs: int8[3, N].
        rates: float64[3, N].
        on: float64[3] thresholds, to compare metres with radians.

    Returns:
        int8[1, N] of 0 or +-1 (drive), +-2 (sideways), +-3 (turn), and that axis' rate float64[1, N].
    """
    strength = np.where(signs != 0, np.abs(rates) / on[:, None], -1.0)
    best = np.argmax(strength, 0)[None]
    sign, rate = np.take_along_axis(signs, best, 0), np.take_along_axis(rates, best, 0)
    return (sign * (best + 1)).astype(np.int8), rate
