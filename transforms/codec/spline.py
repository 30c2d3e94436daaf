"""Clamped B-splines on an even clock: their basis, and fits through points. A clamped spline begins and ends in its end points."""

from functools import lru_cache

import numpy as np

from transforms.codec.base import F64


@lru_cache(maxsize=64)
def basis(samples: int, points: int, degree: int = 3) -> F64:
    """Return the basis at `samples` even places from start to end, float64[samples, points]; rows add up to 1.

    Needs more points than the degree. The array is shared: do not write to it.
    """
    from scipy.interpolate import BSpline

    matrix = BSpline.design_matrix(np.linspace(0, 1, samples), knots(points, degree), degree).toarray()
    matrix.flags.writeable = False
    return matrix


def knots(points: int, degree: int) -> F64:
    """Return the knots of a clamped spline on [0, 1], float64[points + degree + 1]."""
    inner = np.linspace(0, 1, points - degree + 1)
    return np.concatenate([np.zeros(degree), inner, np.ones(degree)]).astype(np.float64)


def through(places: F64, values: F64, wanted: F64) -> F64:
    """Interpolate values float64[n, C] at rising places float64[n] by a clamped cubic spline (of lower degree below 4 points).

    Returns:
        float64[m, C] at `wanted`; the first and last value outside.
    """
    from scipy.interpolate import make_interp_spline

    if len(places) == 1:
        return np.repeat(values, len(wanted), axis=0)
    degree = min(3, len(places) - 1)
    return np.asarray(make_interp_spline(places, values, k=degree)(np.clip(wanted, places[0], places[-1])))
