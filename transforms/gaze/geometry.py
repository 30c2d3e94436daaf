"""Directions and depths of gaze: Project Aria's angles, where two eyes meet, angles between rays.

The central pupil frame (CPF) has its origin between the pupils, x left, y up, z forward. A direction there is (tan yaw, tan pitch, 1);
this and the formula of vergence are those of Project Aria's tools (Apache 2.0).
"""

import numpy as np

from transforms.grid import BOOL
from transforms.rotation import F64

IPD_M = 0.063  # between the pupils, as Project Aria assumes
PARALLEL = 1e-4  # difference of tangents below which two eyes look at no point: 630 m
Z95 = 1.959964  # standard deviations in half of a 95 % interval


def cpf_direction(yaw: F64, pitch: F64) -> F64:
    """Return unit vectors float64[3, N] in CPF from angles in radians, float64[N]."""
    ray = np.stack([np.tan(yaw), np.tan(pitch), np.ones_like(yaw)])
    return ray / np.linalg.norm(ray, axis=0)


def vergence(left_yaw: F64, right_yaw: F64, pitch: F64, ipd_m: float = IPD_M) -> tuple[F64, F64, BOOL]:
    """Find where the lines of two eyes meet.

    Args:
        left_yaw: of the left eye, radians, float64[N].
        right_yaw: of the right eye.
        pitch: of both.
        ipd_m: metres between them.

    Returns:
        The common direction float64[3, N] in CPF, whose tangent of yaw is the mean of both; the distance of the point where they meet,
        metres, float64[N]; and whether they meet in front of the face. Where they do not (they are parallel, or part), it is NaN.
    """
    left, right = np.tan(left_yaw), np.tan(right_yaw)
    meet = right - left > PARALLEL
    ray = np.stack([(left + right) / 2, np.tan(pitch), np.ones_like(left)])
    length = np.linalg.norm(ray, axis=0)
    ahead = ipd_m / np.where(meet, right - left, 1.0)
    return ray / length, np.where(meet, ahead * length, np.nan), meet


def spread_deg(low: F64, high: F64) -> F64:
    """Return the standard deviation, degrees, that a 95 % interval of an angle (radians) has if it is normal."""
    return np.degrees(np.abs(high - low)) / (2 * Z95)


def angle_deg(one: F64, other: F64) -> F64:
    """Return angles between unit vectors float64[3, N], degrees; exact for small ones too."""
    return np.degrees(2 * np.arctan2(np.linalg.norm(one - other, axis=0), np.linalg.norm(one + other, axis=0)))


def parallax_deg(assumed_m: float, true_m: float, baseline_m: float) -> float:
    """Return by how much a direction is off when a point `true_m` away is taken to be `assumed_m` away, seen from `baseline_m` aside."""
    return float(np.degrees(abs(np.arctan(baseline_m / true_m) - np.arctan(baseline_m / assumed_m))))
