"""Density ratios log p_target(x) / p_prior(x) of points in an embedding space: which of the prior's points look like the target's.

Three back-ends. `nn` is minus the distance to the nearest target point (Behavior Retrieval), a ranking and no ratio: it does not know
how common a point is in the prior. `kde` is the ratio of two kernel densities (importance-weighted retrieval), of which `nn` is the
limit of a vanishing bandwidth. `clf`, the default, is the logit of a classifier between both, cross-fitted so that no point is judged
by a model that saw it: with balanced classes its logit is the log ratio itself.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.resampling import effective_size

F64 = npt.NDArray[np.float64]
Backend = Literal["clf", "kde", "nn"]
BACKENDS: tuple[Backend, ...] = ("clf", "kde", "nn")
FOLDS, CLIP = 2, 0.999
PRIOR_KERNELS = 2_000  # points of the prior whose density stands for all of it
PER_FEATURE = 10  # target points per feature from which the classifier is free
CHUNK = 1 << 12


@dataclass(frozen=True, slots=True)
class Ratios:
    """What a back-end found for the prior's points.

    Attributes:
        log_ratio: float64[n], clipped above at its 99.9 % quantile and shifted so that the weights exp(log_ratio) have mean 1.
        ess: effective number of prior points under these weights.
        residual: distance of the weighted prior's mean from the target's, in standard deviations of the prior, averaged over axes.
        unweighted: the same without weights; weights that help make it smaller.
    """

    log_ratio: F64
    ess: float
    residual: float
    unweighted: float


def density_ratio(target: npt.ArrayLike, prior: npt.ArrayLike, backend: Backend = "clf", *, seed: int = 0) -> Ratios:
    """Estimate the log density ratio at every point of the prior.

    Args:
        target: float[m, d], finite.
        prior: float[n, d], finite.
        backend: `clf`, `kde` or `nn`.
        seed: of the folds and of the prior's sub-sample.

    Raises:
        UsageError: the spaces differ, a value is not finite, or there are fewer than two points of a kind.
    """
    near, far = np.asarray(target, np.float64), np.asarray(prior, np.float64)
    if near.ndim != 2 or far.ndim != 2 or near.shape[1] != far.shape[1] or min(len(near), len(far)) < 2:
        raise UsageError(
            f"a density ratio needs two sets of at least two points of one space, not {list(near.shape)} and {list(far.shape)}"
        )
    if not (np.isfinite(near).all() and np.isfinite(far).all()):
        raise UsageError("embeddings hold values that are not finite; leave those episodes out")
    scale = far.std(axis=0)
    centre, scale = far.mean(axis=0), np.where(scale > 0, scale, 1.0)
    near, far = (near - centre) / scale, (far - centre) / scale
    match backend:
        case "clf":
            logs = _classified(near, far, seed)
        case "kde":
            logs = _kernels(near, far, seed)
        case "nn":
            logs = -_nearest(near, far)
    return _normalised(logs, near, far)


def _normalised(logs: F64, near: F64, far: F64) -> Ratios:
    clipped = np.minimum(logs, np.quantile(logs, CLIP))
    clipped = clipped - clipped.max()
    clipped = clipped - np.log(np.exp(clipped).mean())
    weights = np.exp(clipped)
    moved = weights @ far / len(far) - near.mean(axis=0)
    stayed = far.mean(axis=0) - near.mean(axis=0)
    residuals = [float(np.sqrt(np.mean(gap**2))) for gap in (moved, stayed)]
    return Ratios(clipped, effective_size(weights, np.ones(len(far))), *residuals)


def _classified(near: F64, far: F64, seed: int) -> F64:
    """Logits of a logistic regression on coordinates and their squares: exact where both sides are Gaussian.

    The penalty grows with features per target point: with few target points the ratio stays near 1 rather than follow noise.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    points = np.concatenate([near, far])
    features = np.concatenate([points, points**2], axis=1)
    is_target = np.arange(len(points)) < len(near)
    logits, freedom = np.zeros(len(points)), min(1.0, len(near) / (PER_FEATURE * features.shape[1]))
    for fit, judged in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, is_target):
        scaler = StandardScaler().fit(features[fit])
        model = LogisticRegression(C=freedom, class_weight="balanced", max_iter=1_000)
        model.fit(scaler.transform(features[fit]), is_target[fit])
        logits[judged] = model.decision_function(scaler.transform(features[judged]))
    return logits[len(near) :]


def _kernels(near: F64, far: F64, seed: int) -> F64:
    """Ratio of Gaussian kernel densities, each with Scott's bandwidth; a prior point does not count for itself."""
    chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(far))[:PRIOR_KERNELS]
    own = np.full(len(far), -1)
    own[chosen] = np.arange(len(chosen))
    return _log_density(far, near, _scott(near), None) - _log_density(far, far[chosen], _scott(far[chosen]), own)


def _scott(points: F64) -> F64:
    spread = points.std(axis=0)
    return np.where(spread > 0, spread, 1.0) * len(points) ** (-1 / (points.shape[1] + 4))


def _log_density(at: F64, kernels: F64, width: F64, own: npt.NDArray[np.int64] | None) -> F64:
    from scipy.special import logsumexp

    found = np.empty(len(at))
    scaled = kernels / width
    for start in range(0, len(at), CHUNK):
        here = at[start : start + CHUNK] / width
        logs = -0.5 * ((here**2).sum(1)[:, None] - 2 * here @ scaled.T + (scaled**2).sum(1)[None])
        counts = np.full(len(here), len(kernels))
        if own is not None:
            rows = np.flatnonzero(own[start : start + CHUNK] >= 0)
            logs[rows, own[start + rows]] = -np.inf
            counts[rows] -= 1
        found[start : start + CHUNK] = logsumexp(logs, axis=1) - np.log(np.maximum(counts, 1)) - np.log(width).sum()
    return found


def _nearest(near: F64, far: F64) -> F64:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=1).fit(near).kneighbors(far)[0][:, 0]
