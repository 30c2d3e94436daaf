"""Where a point of space is in a picture: pinhole cameras and the lenses a contract may declare. Pixel centres have integer coordinates."""

import numpy as np
import numpy.typing as npt

from schemas.contract import Camera

F64 = npt.NDArray[np.float64]
BOOL = npt.NDArray[np.bool_]
NEAREST = 1e-3  # metres in front of the camera; closer points have no picture


def project(camera: Camera, pose: F64, points: F64) -> tuple[F64, BOOL]:
    """Project points by a declared calibration.

    Args:
        camera: with `intrinsics`; `projection` says how `distortion` is meant, and None is a pinhole.
        pose: float64[4, 4] or float64[T, 4, 4], the camera in the frame of the points (x right, y down, z forward), metres.
        points: float64[3, T], metres.

    Returns:
        Pixels float64[2, T] and bool[T], whether each point lies in front of the camera; pixels of those that do not are NaN.

    Raises:
        ValueError: the camera has no intrinsics, or a distortion of an impossible length.
    """
    if camera.intrinsics is None:
        raise ValueError(f"camera {camera.name} has no intrinsics")
    turn, place = pose[..., :3, :3], pose[..., :3, 3]
    away = points.T - place
    x, y, z = np.einsum("tji,tj->it", turn, away) if turn.ndim == 3 else (away @ turn).T
    ahead = np.asarray(z > NEAREST)
    depth = np.where(ahead, z, 1.0)
    u, v = _bend(camera, x / depth, y / depth)
    matrix = np.array(camera.intrinsics, np.float64).reshape(3, 3)
    pixels = (matrix @ np.stack([u, v, np.ones_like(u)]))[:2]
    return np.where(ahead, pixels, np.nan), ahead


def _bend(camera: Camera, x: F64, y: F64) -> tuple[F64, F64]:
    """Apply a lens to normalised image coordinates."""
    k = camera.distortion or ()
    if camera.projection == "fisheye":
        return _fisheye(x, y, _padded(camera, k, (4,)))
    if camera.projection == "fisheye624":
        return _fisheye624(x, y, _padded(camera, k, (12,)))
    if not k:
        return x, y
    return _opencv(x, y, _padded(camera, k, (4, 5, 8)))


def _opencv(x: F64, y: F64, k: tuple[float, ...]) -> tuple[F64, F64]:
    """Brown-Conrady as in OpenCV: k1 k2 p1 p2 k3, and k4 k5 k6 of the rational model."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*k, *(0.0,) * (8 - len(k)))
    r = x * x + y * y
    radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x),
        y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y,
    )


def _fisheye(x: F64, y: F64, k: tuple[float, ...]) -> tuple[F64, F64]:
    """Kannala-Brandt as in OpenCV's fisheye: a polynomial of the angle to the axis."""
    r = np.hypot(x, y)
    angle = np.arctan(r)
    square = angle * angle
    bent = angle * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3]))))
    share = np.where(r > 1e-12, bent / np.maximum(r, 1e-12), 1.0)
    return x * share, y * share


def _fisheye624(x: F64, y: F64, k: tuple[float, ...]) -> tuple[F64, F64]:
    """Project Aria's model: six radial terms of the angle, two tangential, four thin-prism ones."""
    r = np.hypot(x, y)
    angle = np.arctan(r)
    square = angle * angle
    series = np.zeros_like(r)
    for term in k[5::-1]:
        series = square * (term + series)
    share = np.where(r > 1e-12, angle * (1 + series) / np.maximum(r, 1e-12), 1.0)
    a, b = x * share, y * share
    s = a * a + b * b
    p0, p1, s0, s1, s2, s3 = k[6:]
    tangent = 2 * (a * p0 + b * p1)
    return a + a * tangent + s * p0 + s * (s0 + s * s1), b + b * tangent + s * p1 + s * (s2 + s * s3)


def _padded(camera: Camera, k: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[float, ...]:
    if len(k) not in lengths:
        known = " or ".join(map(str, lengths))
        raise ValueError(f"camera {camera.name} has {len(k)} numbers of {camera.projection or 'opencv'} distortion; use {known}")
    return k
