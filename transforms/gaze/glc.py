"""The numbers that GLC's public evaluator prints, for comparison with published ones only (`glc_compat`).

Not measures of quality: the threshold is chosen on the very maps it is reported on, the label is everything above 0.001 of a blurred point,
and AUC is not asked of the map but of a Gaussian at its centre of mass. `transforms.gaze.metrics` holds the honest ones.
"""

from dataclasses import dataclass

import numpy as np

from transforms.gaze.geometry import angle_deg
from transforms.gaze.maps import expected_point, heat
from transforms.gaze.metrics import MAPS, auc_judd
from transforms.grid import BOOL
from transforms.rotation import F64

SIDE = 64  # cells of GLC's maps
KERNEL = 19  # cells of OpenCV's Gaussian, whose deviation is then .3 * ((19 - 1) / 2 - 1) + .8
SIGMA = 0.3 * ((KERNEL - 1) / 2 - 1) + 0.8
LEVEL = 0.001
THRESHOLDS = np.linspace(0.0, 0.02, 11)
FIELD_DEG = 60.0  # field of view that it assumes of every camera


@dataclass(frozen=True, slots=True)
class GlcNumbers:
    """What GLC's evaluator prints."""

    f1: float
    recall: float
    precision: float
    threshold: float
    auc: float
    angular_deg: float


def glc_compat(maps: MAPS, xy: F64) -> GlcNumbers:
    """Compute GLC's numbers.

    Args:
        maps: [N, 64, 64]; scaled to sum to 1 as its softmax gives them.
        xy: float64[N, 2], fixations as shares of the picture.
    """
    share = maps / np.maximum(maps.sum((-2, -1), keepdims=True), 1e-12)
    truth = labels(xy)
    scores = [_f1(share > t, truth) for t in THRESHOLDS]
    best = int(np.argmax([s[0] for s in scores]))
    middle = expected_point(share)
    auc = auc_judd(heat(middle, (SIDE, SIDE), SIGMA / SIDE), xy)
    return GlcNumbers(
        *scores[best], float(THRESHOLDS[best]), float(auc.mean()), float(angle_deg(_rays(middle), _rays(xy)).mean())
    )


def labels(xy: F64) -> BOOL:
    """Return which cells GLC calls fixated, bool[N, 64, 64]: the blurred point above 0.001; the kernel ends 9 cells away."""
    cell = np.minimum(np.floor(xy * SIDE), SIDE - 1)
    blurred = heat((cell + 0.5) / SIDE, (SIDE, SIDE), SIGMA / SIDE)
    reach = np.abs(np.arange(SIDE)[None] - cell[..., None]) <= KERNEL // 2
    return (blurred > LEVEL) & reach[:, 1, :, None] & reach[:, 0, None, :]


def _rays(xy: F64) -> F64:
    """Return unit rays float64[3, N] of a camera that sees 60 degrees across and down."""
    away = 0.5 / np.tan(np.radians(FIELD_DEG) / 2)
    rays = np.stack([xy[:, 0] - 0.5, xy[:, 1] - 0.5, np.full(len(xy), away)])
    return rays / np.linalg.norm(rays, axis=0)


def _f1(said: BOOL, truth: BOOL) -> tuple[float, float, float]:
    hit = (said & truth).sum((1, 2))
    recall = hit / np.maximum(truth.sum((1, 2)), 1)
    precision = hit / np.maximum(said.sum((1, 2)), 1)
    both = float(recall.mean()), float(precision.mean())
    return 2 * both[0] * both[1] / max(sum(both), 1e-12), *both
