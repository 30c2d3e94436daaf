"""What is known of gaze without looking: the middle, where people usually looked, the last fixation, the hand, what moves by itself.

Alone they are the baselines that a model has to beat; together, as a sum of logarithms with fitted weights, they are the predictor that
needs no training. Under shuffled AUC the middle and the mean map are worth nothing, which is the point of that measure.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.gaze.labels import U8, Labelled
from transforms.gaze.maps import F32, at, heat
from transforms.grid import I64
from transforms.optical_flow import dense_flow, grey
from transforms.rotation import F64

NAMES = ("centre", "hand", "motion")  # what the predictor without training adds up
FLOOR = 1e-4  # a map's least value, as a share of an even one: logarithms stay finite
SPREAD = 0.09  # of the middle of a fixation or a hand, share of the width


@dataclass(frozen=True, slots=True)
class Centre:
    """A Gaussian over the picture: mean float64[2] and covariance float64[2, 2], shares."""

    mean: F64
    covariance: F64

    def map(self, size: tuple[int, int]) -> F32:
        """Return the map float32[H, W], summing to 1."""
        rows, columns = (np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1]
        away = np.stack(np.broadcast_arrays(columns[None] - self.mean[0], rows[:, None] - self.mean[1]))
        form = np.einsum("iyx,ij,jyx->yx", away, np.linalg.inv(self.covariance), away)
        made = np.exp(-form / 2)
        return np.asarray(made / made.sum(), np.float32)


MIDDLE = Centre(np.array([0.5, 0.5]), np.diag([0.15**2, 0.15**2]))


def fit_centre(xy: F64) -> Centre:
    """Fit mean and covariance of points float64[N, 2]; a hundredth of the picture is added to the spread so that few points do no harm."""
    spread = np.cov(xy.T) if len(xy) > 2 else MIDDLE.covariance
    return Centre(xy.mean(0), np.asarray(spread + np.eye(2) * 1e-4, np.float64))


def mean_map(xy: F64, size: tuple[int, int], sigma: float = 0.05) -> F32:
    """Return the mean of maps around points, float32[H, W], summing to 1."""
    made = heat(xy, size, sigma).mean(0, dtype=np.float64)
    return np.asarray(made / made.sum(), np.float32)


def around(xy: F64, size: tuple[int, int], otherwise: F32) -> F32:
    """Return maps around points float64[N, 2], float32[N, H, W]; `otherwise` where a point is not known."""
    made = heat(xy, size, SPREAD)
    return np.where((made.sum((1, 2)) > 0)[:, None, None], made, otherwise)


def motion_maps(pictures: U8, before: I64, now: I64, size: tuple[int, int]) -> F32:
    """Return how much moves by itself between two pictures, float32[N, H, W], each summing to 1: flow minus its median, blurred.

    Args:
        pictures: uint8[P, S, S, 3].
        before: int64[N], rows of the earlier pictures.
        now: int64[N], rows of the later ones.
        size: rows and columns of the maps.
    """
    import cv2

    made = np.full((len(now), *size), 1 / (size[0] * size[1]), np.float32)
    for row, (a, b) in enumerate(zip(before.tolist(), now.tolist(), strict=True)):
        if a == b:
            continue
        flow = dense_flow(grey(pictures[a]), grey(pictures[b]))
        own = np.linalg.norm(flow - np.median(flow.reshape(-1, 2), axis=0), axis=2).astype(np.float32)
        small = cv2.resize(cv2.GaussianBlur(own, (0, 0), max(1.0, len(own) / 24)), size[::-1], interpolation=cv2.INTER_AREA)
        total = float(small.sum())
        made[row] = small / total if total > 1e-6 else made[row]
    return made


def parts_of(labelled: Labelled, size: tuple[int, int], centre: Centre) -> F32:
    """Return the maps that `NAMES` names for every label, float32[K, N, H, W]."""
    flat = np.full(size, 1 / (size[0] * size[1]), np.float32)
    now, before = labelled.window[:, -1], labelled.window[:, -2] if labelled.window.shape[1] > 1 else labelled.window[:, -1]
    middle = np.broadcast_to(centre.map(size), (len(labelled), *size))
    return np.stack([middle, around(labelled.hand, size, flat), motion_maps(labelled.pictures, before, now, size)])


def added(parts: npt.NDArray[np.floating], weights: F64) -> F32:
    """Return exp of the weighted sum of logarithms of maps [K, N, H, W], each summing to 1: float32[N, H, W]."""
    logs = _logs(parts)
    total = np.tensordot(weights, logs, 1)
    made = np.exp(total - total.max((-2, -1), keepdims=True))
    return np.asarray(made / made.sum((-2, -1), keepdims=True), np.float32)


def fit_weights(parts: npt.NDArray[np.floating], xy: F64) -> F64:
    """Fit the weights of `added` to points by maximum likelihood: float64[K], none negative. The problem is convex."""
    from scipy.optimize import minimize

    logs = _logs(parts)
    told = np.stack([at(part, xy) for part in logs])  # [K, N]

    def cost(w: F64) -> tuple[float, F64]:
        total = np.tensordot(w, logs, 1)
        top = total.max((-2, -1), keepdims=True)
        share = np.exp(total - top)
        norm = share.sum((-2, -1), keepdims=True)
        value = float((np.log(norm) + top).sum() - (w @ told).sum())
        slope = (logs * (share / norm)).sum((1, 2, 3)) - told.sum(1)
        return value / len(xy), slope / len(xy)

    found = minimize(cost, np.full(len(parts), 0.5), jac=True, method="L-BFGS-B", bounds=[(0.0, 10.0)] * len(parts))
    return np.asarray(found.x, np.float64)


def _logs(parts: npt.NDArray[np.floating]) -> F64:
    floor = FLOOR / (parts.shape[-1] * parts.shape[-2])
    return np.log(np.maximum(parts, floor).astype(np.float64))
