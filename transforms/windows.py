"""Windows in seconds over irregular clocks: which rows a window means, and which of its entries lie outside the episode.

At the ends of an episode the rule is LeRobot's: the row is clamped to the first or last one and `is_pad` is true. On a regular
clock with offsets that are multiples of the period, rows and padding equal LeRobot's frame arithmetic. What the padded entries
hold is a choice of its own, see `fill_edges`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transforms.noise import seed_of

I64 = npt.NDArray[np.int64]
Edge = Literal["repeat", "mask", "zero_relative", "drop"]
SECOND = 1_000_000_000
SLACK_NS = 1_000_000  # clocks are rounded: a row this little after an instant counts as at it


@dataclass(frozen=True, slots=True)
class Window:
    """Rows per anchor and offset, each [n, K].

    Attributes:
        rows: int64, rows of the clock, always valid.
        is_pad: bool, the wanted instant is before the first row or after the last one's hold.
        staleness_ns: int64, wanted instant minus the row's time; meaningless where padded.
    """

    rows: I64
    is_pad: npt.NDArray[np.bool_]
    staleness_ns: I64


def window(
    t_ns: I64, anchors: npt.ArrayLike, offsets_ns: npt.ArrayLike, *, hold_ns: int, match: Literal["hold", "nearest"]
) -> Window:
    """Resolve a window around each anchor.

    Args:
        t_ns: int64[T], strictly increasing, T >= 1.
        anchors: int[n], rows of `t_ns`.
        offsets_ns: int[K], wanted instants relative to the anchor's time.
        hold_ns: how long the last row holds: one period of the clock.
        match: `hold` takes the latest row not after the instant (causal); `nearest` the closest row, the earlier of two.

    Raises:
        IndexError: an anchor is outside the clock.
    """
    rows = np.asarray(anchors, np.int64).reshape(-1)
    last = len(t_ns) - 1
    if len(rows) and (rows.min() < 0 or rows.max() > last):
        raise IndexError(f"anchors {rows.min()} to {rows.max()} are not all inside the clock's {len(t_ns)} rows")
    wanted = t_ns[rows][:, None] + np.asarray(offsets_ns, np.int64).reshape(1, -1)
    slack = min(SLACK_NS, hold_ns // 4)
    # Ufuncs and methods, not np.clip and np.searchsorted: this runs for every sample, where their wrappers would cost the most.
    if match == "hold":
        found = np.minimum(np.maximum(t_ns.searchsorted(wanted + slack, side="right") - 1, 0), last)
        first, end = t_ns[0] - slack, t_ns[last] + hold_ns - slack
    else:
        after = t_ns.searchsorted(wanted)
        left, right = np.maximum(after - 1, 0), np.minimum(after, last)
        found = np.where(wanted - t_ns[left] <= t_ns[right] - wanted, left, right)
        first, end = t_ns[0] - hold_ns // 2, t_ns[last] + hold_ns - hold_ns // 2
    return Window(found, (wanted < first) | (wanted >= end), wanted - t_ns[found])


def delayed_window(
    t_ns: I64,
    anchors: npt.ArrayLike,
    offsets_ns: npt.ArrayLike,
    *,
    hold_ns: int,
    match: Literal["hold", "nearest"],
    late_ns: int,
) -> Window:
    """Resolve a window of a signal that is known `late_ns` after it was captured.

    At the instant `t + o` only rows with `t_k + late_ns <= t + o` exist, so the window is that of `o - late_ns`; the staleness
    stays that of the instant asked for, `t + o - t_k`, and is 0 where padded. Arguments and errors as in `window`.
    """
    shifted = np.asarray(offsets_ns, np.int64) - late_ns
    found = window(t_ns, anchors, shifted, hold_ns=hold_ns, match=match)
    return Window(found.rows, found.is_pad, np.where(found.is_pad, 0, found.staleness_ns + late_ns))


def signal_window(
    t_ns: I64,
    instants_ns: npt.ArrayLike,
    offsets_ns: npt.ArrayLike,
    *,
    end_ns: int,
    late_ns: int = 0,
    oldest_ns: int | None = None,
) -> Window:
    """Resolve windows over a signal that keeps a clock of its own: zero-order hold, strictly causal.

    At the instant `t + o` the latest sample with `t_k + late_ns <= t + o` counts, and its staleness is `t + o - t_k`. An entry is
    padding where there is no such sample yet, where it is older than `oldest_ns`, or where the instant lies at or after `end_ns`. Its row
    then is 0, or whichever would have been shown, and its staleness 0.

    Args:
        t_ns: int64[N], times of the samples, rising (equal times allowed: the last of them counts), N >= 1.
        instants_ns: int64[n], times of the anchors on the same clock.
        offsets_ns: int[K], wanted instants relative to the anchors'.
        end_ns: first instant after the episode.
        late_ns: how long after its capture a sample is known.
        oldest_ns: the greatest staleness allowed; None: any.
    """
    wanted = np.asarray(instants_ns, np.int64).reshape(-1, 1) + np.asarray(offsets_ns, np.int64).reshape(1, -1)
    found = t_ns.searchsorted(wanted - late_ns, side="right") - 1
    rows = np.maximum(found, 0)
    staleness = wanted - t_ns[rows]
    is_pad = (found < 0) | (wanted >= end_ns)
    if oldest_ns is not None:
        is_pad |= staleness > oldest_ns
    return Window(rows, is_pad, np.where(is_pad, 0, staleness))


def whole_anchors(t_ns: I64, offsets_ns: npt.ArrayLike, *, hold_ns: int, match: Literal["hold", "nearest"]) -> tuple[int, int]:
    """Return the anchors `[start, stop)` whose window has no padding; equal numbers where there is none."""
    is_pad = window(t_ns, np.arange(len(t_ns)), offsets_ns, hold_ns=hold_ns, match=match).is_pad
    inside = np.flatnonzero(~is_pad.any(axis=1))  # one run: instants rise with the anchor
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


def fill_edges(
    values: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_], edge: Edge, relative: Sequence[bool] = ()
) -> npt.NDArray[Any]:
    """Say what the padded entries of a window hold.

    Args:
        values: [K, ...], clamped as `window` clamps.
        is_pad: bool[K].
        edge: `repeat` (and `drop`, under which none should be left) keeps the clamped value; `mask` is zero; `zero_relative`
            is zero where the value is a change per step or a speed, which repeated would move on, and the clamped value elsewhere.
        relative: per scalar of one entry, whether it is one; empty: none is.

    Returns:
        `values` itself where nothing changes, else a copy.
    """
    if edge in ("repeat", "drop") or not is_pad.any() or (edge == "zero_relative" and not any(relative)):
        return values
    filled = values.copy()
    if edge == "mask":
        filled[is_pad] = 0
        return filled
    flat = filled.reshape(len(filled), -1)
    flat[np.ix_(is_pad, np.asarray(relative, np.bool_))] = 0
    return flat.reshape(values.shape)


def drawn_delay_ns(delays_ns: int | Sequence[int], *sample_id: str | int) -> int:
    """Return a delay that is always the same for one sample id: a counter-based draw.

    Args:
        delays_ns: the largest, of delays uniform from 0; or a list to choose from, each entry as likely as any other.
        sample_id: what the draw belongs to.
    """
    drawn = seed_of(*sample_id)
    return drawn * (delays_ns + 1) >> 64 if isinstance(delays_ns, int) else delays_ns[drawn * len(delays_ns) >> 64]


def period_ns(t_ns: I64, fallback_hz: float | None = None) -> int:
    """Return the median step of a clock in nanoseconds; of a single row, that of `fallback_hz` (one second without it)."""
    if len(t_ns) > 1:
        return max(1, int(np.median(np.diff(t_ns))))
    return round(SECOND / fallback_hz) if fallback_hz else SECOND


def chunk_offsets(horizon_s: float, hz: float) -> tuple[float, ...]:
    """Return the offsets in seconds of a chunk over `[0, horizon_s)` at `hz`: k / hz, at least one."""
    return tuple(k / hz for k in range(max(1, round(horizon_s * hz))))


def to_ns(offsets_s: tuple[float, ...]) -> I64:
    """Return offsets in seconds as int64 nanoseconds."""
    return np.rint(np.asarray(offsets_s, np.float64) * SECOND).astype(np.int64)
