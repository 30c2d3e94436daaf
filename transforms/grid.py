"""Several episodes on one even clock: resampling, smoothing and run lengths over sequences laid end to end.

Episodes are concatenated along the last axis, so a whole shard is one array and no function loops over episodes. `starts`
int64[E + 1] holds the first index of each episode, then the total.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.rotation import F64, continuous, normalise, slerp

I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
SECOND = 1_000_000_000
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Grid:
    """An even clock per episode that starts at the episode's first step.

    Attributes:
        rate_hz: samples per second.
        starts: int64[E + 1] first sample of each episode, then G.
        left: int64[G] step at or before each sample.
        right: int64[G] step after it (the same one at an episode's end).
        weight: float64[G] in [0, 1]: how far the sample lies from `left` to `right`.
        sample: int64[T] the sample nearest to each step.
        gap: bool[G] whether the two steps lie further apart than the caller allows.
    """

    rate_hz: float
    starts: I64
    left: I64
    right: I64
    weight: F64
    sample: I64
    gap: BOOL

    @property
    def size(self) -> int:
        """Number of samples of all episodes."""
        return int(self.starts[-1])

    def remaining(self) -> I64:
        """Return int64[G]: how many samples of the episode follow each sample."""
        lengths = np.diff(self.starts)
        return np.repeat(self.starts[1:] - 1, lengths) - np.arange(self.size)

    def linear(self, values: npt.NDArray[np.floating]) -> F64:
        """Resample float[D, T] linearly to float64[D, G]."""
        data = np.ascontiguousarray(values, np.float64)
        a, b = np.take(data, self.left, 1), np.take(data, self.right, 1)
        b -= a
        b *= self.weight
        b += a
        return b

    def spherical(self, q: F64) -> F64:
        """Resample unit quaternions float64[4, T] along great arcs to float64[4, G], signs continuous inside an episode."""
        found = np.take(q, self.left, 1)
        between = np.flatnonzero(self.weight > 0)
        if len(between):
            found[:, between] = slerp(found[:, between], np.take(q, self.right[between], 1), self.weight[between])
        return continuous(found, self.starts[:-1])


def make_grid(t_ns: I64, starts: I64, rate_hz: float, max_gap_s: float) -> Grid:
    """Lay an even clock over steps.

    Args:
        t_ns: int64[T] step times on each episode's own clock, increasing inside an episode.
        starts: int64[E + 1] first step of each episode, then T; no episode is empty.
        rate_hz: samples per second.
        max_gap_s: steps further apart than this are not bridged; samples between them are marked `gap`.
    """
    first, lengths = starts[:-1], np.diff(starts)
    # Whole nanoseconds: which two steps a sample lies between must not depend on what else is in the batch.
    t = t_ns - np.repeat(t_ns[first], lengths)
    last = t[starts[1:] - 1]
    counts = np.floor(last * (rate_hz / SECOND) + 1e-6).astype(np.int64) + 1
    grid = np.concatenate([[0], np.cumsum(counts)])
    order = np.arange(grid[-1]) - np.repeat(grid[:-1], counts)
    phase = np.rint(order * (SECOND / rate_hz)).astype(np.int64)
    # One increasing axis for all episodes: each is shifted past the end of the one before it.
    shift = np.concatenate([[0], np.cumsum(last + 2 * SECOND)[:-1]])
    left = np.searchsorted(t + np.repeat(shift, lengths), phase + np.repeat(shift, counts), side="right") - 1
    right = np.minimum(left + 1, np.repeat(starts[1:] - 1, counts))
    span = t[right] - t[left]
    weight = np.clip((phase - t[left]) / np.where(span > 0, span, 1), 0.0, 1.0)
    nearest = np.minimum(np.rint(t * (rate_hz / SECOND)).astype(np.int64), np.repeat(counts, lengths) - 1)
    nearest += np.repeat(grid[:-1], lengths)
    return Grid(rate_hz, grid, left, right, weight, nearest, span > max_gap_s * SECOND + 1)


def smooth(values: F64, starts: I64, samples: int) -> F64:
    """Savitzky-Golay filter of order 2 (zero phase) over each episode of float64[D, G].

    Ends are read off the parabola through the first and last window, as `scipy.signal.savgol_filter(mode="interp")` does.
    Episodes shorter than the window are left as they are. A NaN spreads over one window and no further.

    Args:
        values: the sequences.
        starts: int64[E + 1].
        samples: window length, odd.
    """
    half = samples // 2
    fit = _parabola(samples)
    result = values.copy()
    if half == 0 or values.shape[1] < samples:
        return result
    for row, out in zip(values, result, strict=True):
        _convolve(row, fit[half, half:], out[half : len(row) - half])
    lengths = np.diff(starts)
    for episode in np.flatnonzero(lengths < samples):
        span = slice(starts[episode], starts[episode + 1])
        result[:, span] = values[:, span]
    whole = lengths >= samples
    for anchor, rows in ((starts[:-1][whole], slice(0, half)), (starts[1:][whole] - samples, slice(half + 1, samples))):
        window = anchor[:, None] + np.arange(samples)
        result[:, window[:, rows]] = np.einsum("des,rs->der", values[:, window], fit[rows])
    return result


def smooth_rotation(q: F64, starts: I64, samples: int) -> F64:
    """Smooth unit quaternions float64[4, G] with continuous signs.

    The filter runs on the components and the result is scaled back: the same as filtering the log map around each window's
    centre up to third order in the rotation inside the window (below 1e-3 rad for 0.3 s at 1 rad/s).
    """
    return normalise(smooth(q, starts, samples))


def changes(values: npt.NDArray[Any]) -> BOOL:
    """Mark where values [N] differ from the one before: bool[N], as `runs` takes them; the first is marked."""
    marks = np.ones(len(values), bool)
    marks[1:] = values[1:] != values[:-1]
    return marks


def runs(changed: BOOL) -> tuple[I64, I64]:
    """Turn bool[N] marks of where a new run begins into int64 first indices and lengths. The first element always begins one."""
    marks = changed.copy()
    marks[:1] = True
    first = np.flatnonzero(marks)
    return first, np.diff(np.append(first, len(changed)))


def _convolve(row: F64, kernel: F64, out: F64) -> None:
    """Filter one row with a symmetric kernel, given from its centre outwards, into `out`; in blocks that stay in the cache."""
    half = len(kernel) - 1
    scratch = np.empty(min(_BLOCK, len(out)))
    for a in range(0, len(out), _BLOCK):
        b = min(a + _BLOCK, len(out))
        block, pair = out[a:b], scratch[: b - a]
        np.multiply(row[a + half : b + half], kernel[0], out=block)
        for k in range(1, half + 1):
            np.add(row[a + half - k : b + half - k], row[a + half + k : b + half + k], out=pair)
            pair *= kernel[k]
            block += pair


def _parabola(samples: int) -> F64:
    """Row r of float64[samples, samples] evaluates at point r the least-squares parabola through a window."""
    x = np.arange(samples, dtype=np.float64) - samples // 2
    basis = np.vander(x, min(3, samples))
    return basis @ np.linalg.pinv(basis)
