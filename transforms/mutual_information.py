"""How much each sample contributes to the mutual information of two variables: the nearest-neighbour estimator DemInf ranks with.

Kraskov, Stoegbauer, Grassberger (2004) in the form of Hejna et al. (arXiv 2502.08623). Scores compare samples of one data set; they
are not comparable across data sets, and they reward determinism even where the behaviour is wrong.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.noise import raw

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
NEIGHBOURS = (5, 6, 7)
BATCH = 1024
PASSES = 4


def contributions(first: F64, second: F64, neighbours: Sequence[int] = NEIGHBOURS) -> F64:
    """Return `-mean_k[psi(n_first) + psi(n_second)]` per sample, float64[B].

    `n` counts the samples, itself included, strictly nearer in one variable than the k-th neighbour is in both (maximum of the two
    Euclidean distances). The mean over samples plus `psi(k) + psi(B)` estimates the mutual information in nats.

    Args:
        first: float64[B, P], one variable.
        second: float64[B, Q], the other.
        neighbours: the k to average over, each below B.

    Raises:
        UsageError: fewer samples than neighbours.
    """
    from scipy.spatial.distance import cdist
    from scipy.special import digamma

    if len(first) != len(second) or len(first) <= max(neighbours):
        raise UsageError(f"{len(first)} and {len(second)} samples; both need the same number, above {max(neighbours)}")
    far_first, far_second = cdist(first, first), cdist(second, second)
    both = np.maximum(far_first, far_second)
    np.fill_diagonal(both, np.inf)
    nearest = np.partition(both, [k - 1 for k in neighbours], axis=1)
    score = np.zeros(len(first))
    for k in neighbours:
        reach = nearest[:, k - 1 : k]
        counts = [np.maximum((far < reach).sum(axis=1), 1) for far in (far_first, far_second)]
        score -= digamma(counts[0]) + digamma(counts[1])
    return score / len(neighbours)


def information(first: F64, second: F64, neighbours: Sequence[int] = NEIGHBOURS) -> float:
    """Estimate the mutual information of two variables in nats from one batch of samples; see `contributions`."""
    from scipy.special import digamma

    constant = float(np.mean(digamma(np.array(neighbours, np.float64))) + digamma(len(first)))
    return float(contributions(first, second, neighbours).mean()) + constant


def batched_contributions(first: F64, second: F64, seed: int, batch: int = BATCH, passes: int = PASSES) -> F64:
    """Return the mean contribution per sample over `passes` random partitions into batches, float64[N]; O(passes * N * batch).

    The last, short batch of a partition is filled up with samples of its beginning, so that every score comes from `batch` samples.
    """
    count = len(first)
    batch, total = min(batch, count), np.zeros(count)
    for number in range(passes):
        order = np.argsort(raw([seed], number, count)[0], kind="stable")
        for start in range(0, count, batch):
            own = order[start : start + batch]
            filled = np.concatenate([own, order[: batch - len(own)]])
            total[own] += contributions(first[filled], second[filled])[: len(own)]
    return total / passes


def standardised(score: F64) -> F64:
    """Clip to the 1st and 99th percentile, then shift and scale to mean 0 and deviation 1 over the data set."""
    clipped = np.clip(score, *np.percentile(score, [1, 99]))
    spread = clipped.std()
    return (clipped - clipped.mean()) / (spread if spread > 0 else 1.0)


def mean_by_group(score: F64, group: I64, groups: int) -> F64:
    """Return the mean score per group, float64[groups]; NaN for a group without samples."""
    counts = np.bincount(group, minlength=groups)
    return np.bincount(group, score, groups) / np.where(counts, counts, np.nan)
