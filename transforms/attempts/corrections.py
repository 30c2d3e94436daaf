"""Corrections on a clock: when one takes effect, and in how few directions it acts (LILAC, "No, to the right").

A person who corrects a robot by words or by hand steers few things at once: the differences between what is done then and what the
policy would have done lie near a plane, whose directions are a local basis for controls.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
MOST = 3  # directions a person steers at once
ENOUGH = 0.9  # share of the differences they must explain


@dataclass(frozen=True, slots=True)
class Basis:
    """Directions of a correction.

    Attributes:
        directions: float64[d, A], orthonormal, strongest first; `d` as small as explains enough, at most `MOST`.
        explained: share of the squared differences they explain, in [0, 1].
    """

    directions: F64
    explained: float


def local_basis(differences: F64, most: int = MOST, enough: float = ENOUGH) -> Basis:
    """Return the directions in which actions were corrected; none where nothing differs.

    Args:
        differences: float64[N, A], action done less action replaced, per step, in the action's own units. They are not centred: a steady
            correction is one direction.
        most: directions at most.
        enough: share from which fewer do.
    """
    if differences.ndim != 2 or not np.isfinite(differences).all():
        raise UsageError(f"differences are {differences.shape}; they must be finite and [steps, action]")
    _, size, directions = np.linalg.svd(differences, full_matrices=False)
    total = float((size**2).sum())
    if total <= 0:
        return Basis(np.empty((0, differences.shape[1])), 1.0)
    share = np.cumsum(size**2) / total
    count = min(int(np.searchsorted(share, enough - 1e-12)) + 1, most, len(share))
    return Basis(directions[:count], float(min(share[count - 1], 1.0)))


def effect_ns(t_ns: I64, differences: F64, said_ns: int, horizon_s: float, least: float) -> int | None:
    """Return when a correction said at `said_ns` takes effect: the first step, not before and at most `horizon_s` later, that it changes.

    Args:
        t_ns: int64[N], times of the steps.
        differences: float64[N, A], as in `local_basis`.
        said_ns: when it was said, or the take-over.
        horizon_s: how long it may take.
        least: Euclidean length from which a difference is one.
    """
    late = said_ns + round(horizon_s * 1e9)
    changed = (t_ns >= said_ns) & (t_ns <= late) & (np.linalg.norm(differences, axis=1) >= least)
    return int(t_ns[np.argmax(changed)]) if changed.any() else None
