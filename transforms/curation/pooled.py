"""Scores that need a whole task or dataset: relative sharpness, joint outliers of state and action, predicted progress."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from transforms.curation.score import Score, missing
from transforms.rotation import F64

LEAST_ROWS, LEAST_EPISODES, FOLDS = 50, 6, 5
LEAST_VARIANCE = 1e-3  # of a direction, in variances of a scaled number: state and action may be nearly collinear
KAPPA = 0.01  # progress over the horizon that counts in full (LeRobot's SARM)


def blur(sharpness: Mapping[str, Mapping[str, float]]) -> dict[str, Score]:
    """Return per episode the sharpness of its least sharp camera over that camera's median; `sharpness` is episode to camera to value."""
    cameras = {c for told in sharpness.values() for c in told}
    medians = {c: float(np.median([told[c] for told in sharpness.values() if c in told])) for c in cameras}
    found: dict[str, Score] = {}
    for episode, told in sharpness.items():
        ratios = {c: v / medians[c] for c, v in told.items() if medians[c] > 0}
        found[episode] = Score(min(ratios.values()), {"cameras": ratios}) if ratios else missing("no picture with any texture")
    return found


@dataclass(frozen=True, slots=True)
class Reference:
    """What rows of one task usually look like.

    Attributes:
        centre: float64[d] medians.
        scale: float64[d] median absolute deviations, as standard deviations.
        whiten: float64[d, d] of the scaled rows.
        limit: the distance that one row in 200 exceeds.
    """

    centre: F64
    scale: F64
    whiten: F64
    limit: float = 0.0

    @classmethod
    def fit(cls, rows: F64) -> "Reference | None":
        """Fit to float64[N, d] robustly: Ledoit-Wolf's shrunk covariance of rows clipped at 5 deviations. None under 50 rows."""
        if len(rows) < LEAST_ROWS:
            return None
        from sklearn.covariance import LedoitWolf

        centre = np.median(rows, axis=0)
        scale = 1.4826 * np.median(np.abs(rows - centre), axis=0)
        scale = np.maximum(scale, np.maximum(0.5 * rows.std(0), 1e-9))  # a number that mostly rests has a deviation of 0
        clipped = np.clip((rows - centre) / scale, -5, 5)
        values, vectors = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(clipped).covariance_)
        plain = cls(centre, scale, vectors / np.sqrt(np.maximum(values, LEAST_VARIANCE)))
        return replace(plain, limit=float(np.quantile(plain.distance(rows), 0.995)))

    def distance(self, rows: F64) -> F64:
        """Mahalanobis distance of float64[N, d] per root of d, float64[N]: about 1 for a usual row."""
        return np.linalg.norm((rows - self.centre) / self.scale @ self.whiten, axis=1) / np.sqrt(rows.shape[1])

    def score(self, rows: F64) -> Score:
        """Score an episode's rows (s, a, s' - s): 95th percentile of their distance; `beyond` is the share over the limit."""
        if not len(rows):
            return missing("no steps with state and action")
        distance = self.distance(rows)
        return Score(float(np.quantile(distance, 0.95)), {"beyond": float((distance > self.limit).mean())})


@dataclass(frozen=True)
class Progress:
    """Predicts t / T from a state, by models each fitted without the groups of one fold: no episode is judged by its kin.

    Ridge regression on random Fourier features of states.
    """

    fold: Mapping[str, int]
    models: Mapping[int, Callable[[F64], F64]]

    @classmethod
    def fit(cls, states: Sequence[F64], done: Sequence[F64], groups: Sequence[str]) -> "Progress | None":
        """Fit to episodes: states float64[n, d], their t / T float64[n], and the group of each. None under 6 episodes or 2 groups."""
        if len(states) < LEAST_EPISODES or len(set(groups)) < 2:
            return None
        order = {g: i for i, g in enumerate(sorted(set(groups)))}
        fold = {g: i % min(FOLDS, len(order)) for g, i in order.items()}
        models: dict[int, Callable[[F64], F64]] = {}
        for k in set(fold.values()):
            mine = [i for i, g in enumerate(groups) if fold[g] != k]
            models[k] = _regress(np.concatenate([states[i] for i in mine]), np.concatenate([done[i] for i in mine]))
        return cls(fold, models)

    def gain(self, state: F64, group: str, period_s: float, horizon_s: float = 1.0) -> F64:
        """Return predicted progress over the next `horizon_s` from each step, float64[T - h]."""
        ahead = max(1, round(horizon_s / max(period_s, 1e-9)))
        shown = self.models[self.fold.get(group, 0)](state)  # a group that no model has seen may ask any
        return shown[ahead:] - shown[:-ahead] if len(shown) > ahead else np.zeros(0)


def progress_scores(gains: Sequence[F64]) -> list[Score]:
    """Score episodes of one task by their gains: the mean; `weight` is the mean RA-BC weight, `backwards` the share below 0."""
    pooled = np.concatenate(gains) if gains else np.zeros(0)
    if not len(pooled):
        return [missing("shorter than the horizon") for _ in gains]
    mean, spread = float(pooled.mean()), float(pooled.std())
    return [
        Score(float(g.mean()), {"weight": float(progress_weight(g, mean, spread).mean()), "backwards": float((g < 0).mean())})
        if len(g)
        else missing("shorter than the horizon")
        for g in gains
    ]


def progress_weight(gain: F64, mean: float, spread: float, kappa: float = KAPPA) -> F64:
    """RA-BC weight of predicted progress r: 1 above kappa, 0 below 0, between them clip((r - mean + 2 sd) / (4 sd + eps), 0, 1)."""
    between = np.clip((gain - mean + 2 * spread) / (4 * spread + 1e-6), 0.0, 1.0)
    return np.where(gain > kappa, 1.0, np.where(gain >= 0, between, 0.0))


def _regress(rows: F64, done: F64) -> Callable[[F64], F64]:
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    gamma = 1.0 / max(rows.shape[1], 1)
    model = make_pipeline(StandardScaler(), RBFSampler(gamma=gamma, n_components=200, random_state=0), Ridge(1.0))
    model.fit(rows, done)
    return lambda state: np.clip(cast("F64", model.predict(state)), 0.0, 1.0)
