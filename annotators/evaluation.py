"""How good is an annotator? Reports with baselines, intervals and gates, and the statistics they share. No annotator is named here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from schemas.ids import digest
from transforms.rotation import F64

Gate = Literal["pass", "fail", "not-measurable"]
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class QualityReport:
    """One metric on one held-out split.

    Attributes:
        metric: its name.
        value: the measurement; None where it cannot be made on this data.
        ci95: bootstrap interval over episodes; None below two episodes.
        n_episodes: episodes measured.
        n_rows: steps measured.
        split: which episodes: `all`, or how they were split.
        baselines: the same metric for every mandatory baseline.
        gate: the verdict; `not-measurable` where the data has no ground truth for it.
        gt_source: what the truth was, or why there is none.
        goal: the gate in words.
        detail: further numbers.
    """

    metric: str
    value: float | None
    ci95: tuple[float, float] | None
    n_episodes: int
    n_rows: int
    split: str
    baselines: Mapping[str, float]
    gate: Gate
    gt_source: str
    goal: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def not_measurable(metric: str, why: str, goal: str = "") -> QualityReport:
    """Report that `metric` cannot be measured on this data, and why."""
    return QualityReport(metric, None, None, 0, 0, "none", {}, "not-measurable", why, goal)


def known(value: float) -> float | None:
    """Return `value`, or None where it is not a number: reports hold no NaN."""
    return float(value) if np.isfinite(value) else None


def verdict(ok: bool) -> Gate:
    """Name a gate's outcome."""
    return "pass" if ok else "fail"


def bootstrap(statistic: Callable[[F64], F64 | float], episodes: int, seed: int = 0) -> tuple[float, float] | None:
    """Percentile interval (2.5 %, 97.5 %) of a statistic under resampling of whole episodes.

    Args:
        statistic: takes how often each episode was drawn, float64[R, E], and returns float64[R].
        episodes: E. Below 2 there is no interval.
        seed: of the resampling.
    """
    if episodes < 2:
        return None
    draws = np.random.Generator(np.random.Philox(seed)).multinomial(episodes, np.full(episodes, 1 / episodes), size=RESAMPLES)
    values = np.asarray(statistic(draws.astype(np.float64)))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def ratio(numerator: F64, denominator: F64) -> tuple[float, tuple[float, float] | None]:
    """Sum over sum, with its interval: a share or a mean over steps when each entry is one episode's total."""

    def statistic(draws: F64) -> F64:
        below = draws @ denominator
        return (draws @ numerator) / np.where(below != 0, below, np.nan)

    total = float(denominator.sum())
    return (float(numerator.sum()) / total if total else float("nan")), bootstrap(statistic, len(numerator))


def total_variation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> F64:
    """Half the L1 distance of two distributions given as unnormalised counts [..., K]."""
    p, q = (np.asarray(x, np.float64) / np.maximum(np.asarray(x).sum(-1, keepdims=True), 1e-300) for x in (a, b))
    return 0.5 * np.abs(p - q).sum(-1)


def area_under_roc(score: F64, label: npt.NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative (ties count half); NaN where one of the two is absent."""
    positive, negative = int(label.sum()), int((~label).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]  # mean rank of ties, from 1
    return float((rank[label].sum() - positive * (positive + 1) / 2) / (positive * negative))


def folds(episodes: Sequence[str], parts: int = 5) -> npt.NDArray[np.int64]:
    """Assign each episode, by the hash of its id, to one of `parts` folds of equal size (fewer where there are fewer episodes)."""
    order = sorted(range(len(episodes)), key=lambda e: digest(["fold", episodes[e]]))
    result = np.empty(len(episodes), np.int64)
    result[order] = np.arange(len(episodes)) % min(parts, max(len(episodes), 1))
    return result
