"""Windows in seconds over irregular clocks: which rows a window means, and which of its entries lie outside the episode.

At the ends of an episode the rule is LeRobot's: the row is clamped to the first or last one and `is_pad` is true. On a regular
clock with offsets that are multiples of the period, rows and padding equal LeRobot's frame arithmetic.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
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
    if len(rows) and (rows.min() < 0 or rows.max() >= len(t_ns)):
        raise IndexError(f"anchors {rows.min()} to {rows.max()} are not all inside the clock's {len(t_ns)} rows")
    wanted = t_ns[rows][:, None] + np.asarray(offsets_ns, np.int64).reshape(1, -1)
    slack = min(SLACK_NS, hold_ns // 4)
    if match == "hold":
        found = np.searchsorted(t_ns, wanted + slack, side="right") - 1
        first, end = t_ns[0] - slack, t_ns[-1] + hold_ns - slack
    else:
        after = np.searchsorted(t_ns, wanted, side="left")
        left, right = np.maximum(after - 1, 0), np.minimum(after, len(t_ns) - 1)
        found = np.where(wanted - t_ns[left] <= t_ns[right] - wanted, left, right)
        first, end = t_ns[0] - hold_ns // 2, t_ns[-1] + hold_ns - hold_ns // 2
    clamped = np.clip(found, 0, len(t_ns) - 1)
    return Window(clamped, (wanted < first) | (wanted >= end), wanted - t_ns[clamped])


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
