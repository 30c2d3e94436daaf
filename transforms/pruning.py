"""Which steps keep their reasoning text: dual-layer pruning by visual events and motion.

DualVLA states the idea (keep reasoning where the scene changes and the arm acts); the formulas are ours. A step that is dropped
loses its text and keeps its action.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F64 = npt.NDArray[np.float64]
BOOL = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """How much reasoning stays.

    Attributes:
        retention: share of the steps that may keep their text, before the steps that always do.
        apart_s: two kept steps lie at least this far apart, in seconds, unless one of them must be kept.
    """

    retention: float = 0.25
    apart_s: float = 0.2

    def __post_init__(self) -> None:
        if not (0 < self.retention <= 1 and self.apart_s >= 0):
            raise UsageError(f"retention must be in (0, 1] and apart_s 0 or more; got {self}")


def zscore(values: F64) -> F64:
    """Standardise float64[T]; zeros where nothing varies."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))


def keep_reasoning(t_s: F64, event: F64, motion: F64, must: BOOL, segment: npt.NDArray[np.int64], config: PruneConfig) -> BOOL:
    """Choose the steps of one episode that keep their reasoning, bool[T].

    A step is kept if both its standardised event and its standardised motion lie above a threshold common to both, chosen as the
    lowest that keeps at most `retention` of the steps after suppression of near neighbours; the first step, steps in `must`
    (gripper changes) and the best step of every segment are always kept.

    Args:
        t_s: float64[T] step times, seconds, rising.
        event: float64[T], how much the picture's features change ahead of the step, any unit.
        motion: float64[T], magnitude of the acceleration of the action, any unit.
        must: bool[T], kept whatever the scores.
        segment: int64[T], segment number of each step.
        config: retention and spacing.
    """
    count = len(t_s)
    strength = np.minimum(zscore(event), zscore(motion))
    wanted = max(round(config.retention * count), 1)
    keep = must.copy()
    if count:
        keep[0] = True
    _best_of_segments(keep, strength, segment)
    taken, room = sorted(t_s[keep].tolist()), wanted - int(keep.sum())
    for at in np.argsort(-strength, kind="stable"):
        if room <= 0:
            break
        if keep[at] or _near(taken, float(t_s[at]), config.apart_s):
            continue
        keep[at] = True
        taken.insert(int(np.searchsorted(taken, t_s[at])), float(t_s[at]))
        room -= 1
    return keep


def _best_of_segments(keep: BOOL, strength: F64, segment: npt.NDArray[np.int64]) -> None:
    order = np.lexsort((-strength, segment))
    best = order[np.flatnonzero(np.diff(segment[order], prepend=-1 if not len(segment) else segment[order][0] - 1))]
    covered = np.unique(segment[keep])
    keep[best[~np.isin(segment[best], covered)]] = True


def _near(taken: list[float], t_s: float, apart_s: float) -> bool:
    at = int(np.searchsorted(taken, t_s))
    return any(abs(taken[i] - t_s) < apart_s for i in (at - 1, at) if 0 <= i < len(taken))
