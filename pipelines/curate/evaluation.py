"""Does a quality score see defects, or only length? Areas under ROC, raw and among episodes of like length, with baselines.

Two audits of 2026 found most published scores to rank by length, and scores of the action alone to be blind to structural defects. So
a score counts as seeing a defect only if the interval of its length-matched area lies above one half, and above every baseline: what is
left of length inside a stratum is not a merit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.evaluation import RESAMPLES, Gate
from transforms.curation.video import centred_ranks
from transforms.rotation import F64

I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
STRATA, RANDOM_SEEDS = 5, 40


@dataclass(frozen=True, slots=True)
class Seen:
    """How well one score tells good from spoilt episodes.

    Attributes:
        raw: area under ROC: the chance that a good episode scores better than a spoilt one.
        matched: the same among episodes of like length.
        ci95: bootstrap interval of `matched`, whole recordings resampled.
        partial: Spearman correlation of score and label, given length.
        baselines: matched areas of `random` (mean of 40 seeds), its 97.5th percentile, `longest`, `shortest` and `oracle`.
        measured: share of episodes that have the score.
        gate: `pass` where the interval lies above one half and above what length alone gives within the strata, and the area above
            that of 39 in 40 random scores; `not-measurable` without pairs of like length.
    """

    raw: float
    matched: float
    ci95: tuple[float, float] | None
    partial: float
    baselines: Mapping[str, float]
    measured: float
    gate: Gate


def judge(score: Sequence[float | None], good: Sequence[bool], length: Sequence[float], recording: Sequence[str]) -> Seen:
    """Judge a score whose higher values are better.

    Args:
        score: per episode; None where it could not be measured. Those are left out.
        good: whether the episode is unspoilt.
        length: its length.
        recording: what it was made from; intervals resample these.
    """
    has = np.array([s is not None and np.isfinite(s) for s in score])
    values = np.array([s for s, h in zip(score, has, strict=True) if h], np.float64)
    label, size = np.asarray(good, bool)[has], np.asarray(length, np.float64)[has]
    names = [r for r, h in zip(recording, has, strict=True) if h]
    stratum = strata(size)
    matched = _Areas(label, stratum)
    if not matched.pairs:
        return Seen(float("nan"), float("nan"), None, float("nan"), {}, float(has.mean()) if len(has) else 0.0, "not-measurable")
    ci95 = matched.interval(values, names)
    chance = [matched.area(np.random.Generator(np.random.Philox(seed)).random(len(values))) for seed in range(RANDOM_SEEDS)]
    baselines = {
        "random": float(np.mean(chance)), "random_97.5": float(np.quantile(chance, 0.975)), "longest": matched.area(size),
        "shortest": matched.area(-size), "oracle": matched.area(label.astype(np.float64)),
    }  # fmt: skip
    area, raw = matched.area(values), _Areas(label, np.zeros(len(label), np.int64)).area(values)
    beaten = max(0.5, baselines["longest"], baselines["shortest"])
    sees = ci95 is not None and ci95[0] > beaten and area > baselines["random_97.5"]
    gate: Gate = "not-measurable" if ci95 is None else "pass" if sees else "fail"
    return Seen(raw, area, ci95, partial_spearman(values, label, size), baselines, float(has.mean()), gate)


def strata(length: F64) -> I64:
    """Return the stratum of each length, int64[n]: five by quantile; equal lengths are always in one."""
    if not len(length):
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(length, np.linspace(0, 1, STRATA + 1)[1:-1]))
    return np.searchsorted(edges, length, side="left")


def partial_spearman(score: F64, label: BOOL, length: F64) -> float:
    """Rank correlation of score and label after the ranks of length are regressed out of both."""
    a, b, c = (centred_ranks(v) for v in (score, label.astype(np.float64), length))
    scale = float((c * c).sum())
    if scale > 0:
        a, b = (v - c * float((v * c).sum()) / scale for v in (a, b))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 1e-9 else 0.0


class _Areas:
    """Areas under ROC over the pairs (good, spoilt) that lie in one stratum, for many scores or resamples of the same episodes."""

    def __init__(self, label: BOOL, stratum: I64) -> None:
        self._good, self._bad = np.flatnonzero(label), np.flatnonzero(~label)
        self._together = stratum[self._good][:, None] == stratum[self._bad][None]
        self.pairs = int(self._together.sum())

    def area(self, values: F64) -> float:
        """Return the area; NaN without pairs."""
        return float((self._wins(values) * self._together).sum() / self.pairs) if self.pairs else float("nan")

    def interval(self, values: F64, names: Sequence[str]) -> tuple[float, float] | None:
        """Return the percentile interval under resampling of recordings; None below two."""
        distinct = {n: i for i, n in enumerate(dict.fromkeys(names))}
        if len(distinct) < 2:
            return None
        of = np.array([distinct[n] for n in names])
        draw = np.random.Generator(np.random.Philox(0)).multinomial(
            len(distinct), np.full(len(distinct), 1 / len(distinct)), RESAMPLES
        )
        weight = draw.astype(np.float64)[:, of]
        good, bad = weight[:, self._good], weight[:, self._bad]
        won = ((good @ (self._wins(values) * self._together)) * bad).sum(1)
        total = ((good @ self._together.astype(np.float64)) * bad).sum(1)
        areas = won[total > 0] / total[total > 0]
        if not len(areas):
            return None
        low, high = np.percentile(areas, [2.5, 97.5])
        return float(low), float(high)

    def _wins(self, values: F64) -> Any:
        good, bad = values[self._good][:, None], values[self._bad][None]
        return (good > bad) + 0.5 * (good == bad)
