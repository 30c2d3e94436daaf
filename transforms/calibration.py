"""How far a stated probability can be trusted: expected calibration error, and a rising function that repairs it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A rising piecewise linear function from a score to the probability that what it stands for is right (isotonic regression)."""

    at: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, score: F64, right: npt.NDArray[np.bool_]) -> "Calibration":
        """Fit on held-out cases: float64[N] scores, bool[N] whether each was right."""
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, right.astype(np.float64))
        return cls(tuple(map(float, model.X_thresholds_)), tuple(map(float, model.y_thresholds_)))

    def probability(self, score: float) -> float:
        """Return the probability for one score."""
        return float(np.interp(score, self.at, self.probabilities))


def calibration_error(probability: F64, right: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error: mean gap between said and found, over equal bins of probability."""
    at = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs(probability[at == b].mean() - right[at == b].mean()) * (at == b).mean() for b in range(bins) if (at == b).any()]
    return float(sum(gaps))
