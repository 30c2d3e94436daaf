"""Intervals: of a share, of the difference of two shares, and of the mean of paired differences."""

import math
from collections.abc import Sequence

Interval = tuple[float, float]
CONFIDENCE = 0.95


def wilson(won: int, played: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval of a proportion; the whole of [0, 1] where nothing was played."""
    from scipy.stats import binomtest

    if not played:
        return 0.0, 1.0
    found = binomtest(won, played).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def share_difference(first: tuple[int, int], second: tuple[int, int], confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the share of `first` less that of `second`, each given as (won, played).

    Newcombe's hybrid of the two Wilson intervals (Statistics in Medicine 17, 1998, method 10); [-1, 1] where one was not played.
    """
    if not first[1] or not second[1]:
        return -1.0, 1.0
    p, q = first[0] / first[1], second[0] / second[1]
    (low, high), (below, above) = wilson(*first, confidence), wilson(*second, confidence)
    return p - q - math.hypot(p - low, above - q), p - q + math.hypot(high - p, q - below)


def paired_mean(differences: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, Interval | None]:
    """Return the mean of independent paired differences and Student's interval of it; None below two of them."""
    from scipy.stats import t

    count = len(differences)
    mean = math.fsum(differences) / count if count else math.nan
    if count < 2:
        return mean, None
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (count - 1) / count)
    reach = float(t.ppf((1 + confidence) / 2, count - 1)) * error
    return mean, (mean - reach, mean + reach)
