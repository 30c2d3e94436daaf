"""How well maps say where somebody looked: AUC-Judd, shuffled AUC, NSS, KL divergence, angular error, F1.

Judd et al. 2012 and Bylinskii et al. (TPAMI 2019) for the first four. All take one fixated point per map, because a frame of a video has
one wearer. Maps need not sum to 1. Points are shares of the picture.
"""

import numpy as np
import numpy.typing as npt

from transforms.gaze.maps import at
from transforms.grid import BOOL
from transforms.projection import unproject
from transforms.rotation import F64

MAPS = npt.NDArray[np.floating]
TINY = 1e-12


def auc_judd(maps: MAPS, xy: F64) -> F64:
    """Return the share of cells below each fixated one, ties half, float64[N]: the area under the ROC of one positive against all cells."""
    flat, score = maps.reshape(len(maps), -1), at(maps, xy)[:, None]
    return (flat < score).mean(1) + 0.5 * (flat == score).mean(1)


def shuffled_auc(maps: MAPS, xy: F64, negatives: F64, owner: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> F64:
    """Return how often each map is higher at its own fixation than where others looked at other times, ties half, float64[N].

    A map that only knows where people usually look scores .5. Zhang et al. 2008.

    Args:
        maps: [N, H, W].
        xy: float64[N, 2].
        negatives: float64[M, 2], fixations of other frames.
        owner: int64[N], which group (episode) each map belongs to.
        other: int64[M], which group each negative comes from; those of a map's own group are left out.

    Maps without a negative are NaN.
    """
    mine = at(maps, xy)
    result = np.full(len(maps), np.nan)
    for row in range(len(maps)):
        apart = negatives[other != owner[row]]
        if len(apart):
            theirs = at(maps[row], apart)
            result[row] = (theirs < mine[row]).mean() + 0.5 * (theirs == mine[row]).mean()
    return result


def nss(maps: MAPS, xy: F64) -> F64:
    """Return each map at its fixation after it was given mean 0 and deviation 1, float64[N]; 0 of a flat map."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    mean, deviation = flat.mean(1), flat.std(1)
    return np.where(deviation > TINY, (at(maps, xy) - mean) / np.where(deviation > TINY, deviation, 1.0), 0.0)


def kl_divergence(label: MAPS, maps: MAPS) -> F64:
    """Return KL(label || map), nats, float64[N]; both are scaled to sum to 1, and 1e-12 keeps the logarithm finite."""
    p, q = (m.reshape(len(m), -1).astype(np.float64) for m in (label, maps))
    p, q = p / p.sum(1, keepdims=True), q / np.maximum(q.sum(1, keepdims=True), TINY)
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.maximum(q, TINY)), 0.0).sum(1)


def angular_error(camera: object, one: F64, other: F64) -> F64:
    """Return the angle between what two points of a picture look at, degrees, float64[N]; NaN where the lens has no such ray.

    Args:
        camera: a `schemas.contract.Camera` with intrinsics and size.
        one: float64[N, 2], shares of the picture.
        other: float64[N, 2].
    """
    from schemas.contract import Camera
    from transforms.gaze.geometry import angle_deg

    assert isinstance(camera, Camera)
    size = np.array([camera.width, camera.height], np.float64)[:, None]
    rays = [unproject(camera, p.T * size - 0.5) for p in (one, other)]
    return np.where(rays[0][1] & rays[1][1], angle_deg(rays[0][0], rays[1][0]), np.nan)


def f1_at(maps: MAPS, label: BOOL, threshold: float) -> tuple[float, float, float]:
    """Return F1, recall and precision of `maps / max > threshold` against label cells, over all cells of all maps [N, H, W]."""
    said = _scaled(maps) > threshold
    hit = float((said & label).sum())
    recall, precision = hit / max(float(label.sum()), 1.0), hit / max(float(said.sum()), 1.0)
    return (2 * recall * precision / (recall + precision) if hit else 0.0), recall, precision


def tune_threshold(maps: MAPS, label: BOOL, steps: int = 99) -> float:
    """Return the threshold in (0, 1) with the best F1; for a half of the data that nothing is reported on."""
    candidates = np.linspace(0, 1, steps + 2)[1:-1]
    return float(candidates[int(np.argmax([f1_at(maps, label, float(t))[0] for t in candidates]))])


def _scaled(maps: MAPS) -> F64:
    top = maps.max((-2, -1), keepdims=True)
    return maps / np.where(top > 0, top, 1.0)
