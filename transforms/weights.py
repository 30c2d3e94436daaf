"""The weight algebra: log w(x) = sum over terms of strength * clip(l(x), low, high), and 0 where a gate is shut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.mixture import WeightSpec

F64 = npt.NDArray[np.float64]
LIMIT = 700.0  # exp of more than this overflows


@dataclass(frozen=True, slots=True)
class Term:
    """One term, evaluated.

    Attributes:
        logs: float64[n], strength * clip(l, low, high); 0 where nothing is known.
        open: bool[n], false where the gate is shut.
        missing: bool[n], no value.
    """

    logs: F64
    open: npt.NDArray[np.bool_]
    missing: npt.NDArray[np.bool_]


def evaluate(spec: WeightSpec, values: F64, steps: npt.ArrayLike) -> Term:
    """Evaluate a term.

    Args:
        spec: of the term.
        values: float64[n], NaN where there is none.
        steps: int[n], how many steps each value speaks for; the mean and deviation of `standard` count them.
    """
    missing, size = np.isnan(values), np.abs(values)
    is_open = ~missing | (spec.missing != "drop")
    is_open &= ~(values < (-np.inf if spec.at_least is None else spec.at_least))
    is_open &= ~(values > (np.inf if spec.at_most is None else spec.at_most))
    with np.errstate(divide="ignore", invalid="ignore"):
        match spec.form:
            case "log":
                logs = values
            case "linear":
                logs = np.log(values)
                is_open &= ~(values <= 0)
            case "magnitude":
                logs = np.log(size)
                is_open &= ~(size == 0) | (spec.low is not None)
            case "standard":
                logs = _standard(values, np.asarray(steps, np.float64))
    clipped = np.clip(logs, spec.low, spec.high) if (spec.low, spec.high) != (None, None) else logs
    return Term(np.where(missing | ~is_open, 0.0, spec.strength * clipped), is_open, missing)


def combine(terms: Sequence[Term], steps: npt.ArrayLike) -> F64:
    """Return the weights float64[n] of all terms together, of mean 1 over the steps whose gates are open; all 0 if none is."""
    n = np.asarray(steps, np.float64)
    is_open = np.logical_and.reduce([t.open for t in terms]) if terms else np.ones(len(n), np.bool_)
    logs = np.sum([t.logs for t in terms], axis=0) if terms else np.zeros(len(n))
    seen = is_open & (n > 0)
    if not seen.any():
        return np.zeros(len(n))
    raw = np.where(is_open, np.exp(np.clip(logs - logs[seen].max(), -LIMIT, 0)), 0.0)
    return raw / np.average(raw[seen], weights=n[seen])


def _standard(values: F64, steps: F64) -> F64:
    """Return values less their mean, in standard deviations; 0 where they are all the same."""
    known = ~np.isnan(values) & (steps > 0)
    if not known.any():
        return values
    mean = np.average(values[known], weights=steps[known])
    spread = np.sqrt(np.average((values[known] - mean) ** 2, weights=steps[known]))
    return (values - mean) / spread if spread > 0 else values * 0.0
