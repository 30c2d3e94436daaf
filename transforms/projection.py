"""Where a point of space is in a picture, and which ray a pixel looks along: pinhole cameras and the lenses a contract may declare.

Pixel centres have integer coordinates. A lens bends either the plane at distance one (OpenCV) or the plane of angles to the axis (the
fisheyes); both ways back are found by Newton's method, because none of them has a closed inverse.
"""

import numpy as np
import numpy.typing as npt

from schemas.contract import Camera

F64 = npt.NDArray[np.float64]
BOOL = npt.NDArray[np.bool_]
NEAREST = 1e-3  # metres in front of the camera; closer points have no picture
ROUNDS = 30  # of Newton's method; a dozen are enough inside any picture
CLOSE = 1e-9  # of the plane at distance one: a thousandth of a thousandth of a pixel
WIDEST = np.pi / 2 - 1e-3  # rad from the axis; what lies beyond is not in front of the camera


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


def unproject(camera: Camera, pixels: F64) -> tuple[F64, BOOL]:
    """Return the ray each pixel looks along, the inverse of `project`.

    Args:
        camera: with `intrinsics`; see `project`.
        pixels: float64[2, T].

    Returns:
        Unit vectors float64[3, T] in the camera's frame (x right, y down, z forward), and bool[T]: whether there is exactly one that the
        lens sends there. Rays of pixels without one are NaN.

    Raises:
        ValueError: the camera has no intrinsics, or a distortion of an impossible length.
    """
    if camera.intrinsics is None:
        raise ValueError(f"camera {camera.name} has no intrinsics")
    matrix = np.array(camera.intrinsics, np.float64).reshape(3, 3)
    wanted = np.asarray(np.linalg.solve(matrix, np.stack([*pixels, np.ones(pixels.shape[1])]))[:2], np.float64)
    flat, found = _unbend(camera, wanted)
    if camera.projection in ("fisheye", "fisheye624"):
        angle = np.hypot(*flat)
        found &= angle < WIDEST
        flat = flat * np.where(angle > 1e-12, np.tan(np.where(found, angle, 0.0)) / np.maximum(angle, 1e-12), 1.0)
    rays = np.stack([*flat, np.ones(pixels.shape[1])])
    return np.where(found, rays / np.linalg.norm(rays, axis=0), np.nan), found


def _bend(camera: Camera, x: F64, y: F64) -> tuple[F64, F64]:
    """Apply a lens to normalised image coordinates."""
    if camera.projection in ("fisheye", "fisheye624"):
        r = np.hypot(x, y)
        share = np.where(r > 1e-12, np.arctan(r) / np.maximum(r, 1e-12), 1.0)
        x, y = x * share, y * share
    return _lens(camera, x, y)


def _unbend(camera: Camera, wanted: F64) -> tuple[F64, BOOL]:
    """Return what `_lens` sends to `wanted` float64[2, T], and where it was found; a lens that folds back has no inverse there."""
    point, known = wanted.copy(), np.asarray(np.isfinite(wanted).all(0), np.bool_)
    point[:, ~known] = 0.0
    target = np.where(known, wanted, 0.0)
    upright = np.ones(len(known), bool)
    for _ in range(ROUNDS):
        (a, b), (c, d) = _slopes(camera, point)
        turn = a * d - b * c
        upright = turn > 0
        miss = np.stack(_lens(camera, *point)) - target
        step = np.stack([d * miss[0] - b * miss[1], a * miss[1] - c * miss[0]]) / np.where(upright, turn, 1.0)
        length = np.hypot(*step)
        point = point - np.where(upright, np.minimum(1.0, 0.5 / np.maximum(length, 1e-300)), 0.0) * step
        if not (length[upright] > CLOSE / 10).any():
            break
    miss = np.stack(_lens(camera, *point)) - target
    return point, known & upright & (np.hypot(*miss) < CLOSE)


def _slopes(camera: Camera, point: F64) -> tuple[tuple[F64, F64], tuple[F64, F64]]:
    """Return the lens' derivatives (du/dx, du/dy), (dv/dx, dv/dy), by central differences."""
    h = 1e-6
    x, y = point
    (u1, v1), (u0, v0) = _lens(camera, x + h, y), _lens(camera, x - h, y)
    (u3, v3), (u2, v2) = _lens(camera, x, y + h), _lens(camera, x, y - h)
    return ((u1 - u0) / (2 * h), (u3 - u2) / (2 * h)), ((v1 - v0) / (2 * h), (v3 - v2) / (2 * h))


def _lens(camera: Camera, x: F64, y: F64) -> tuple[F64, F64]:
    """Apply a lens in its own plane: of angles to the axis for fisheyes, at distance one for all others."""
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


def _fisheye(a: F64, b: F64, k: tuple[float, ...]) -> tuple[F64, F64]:
    """Kannala-Brandt as in OpenCV's fisheye: a polynomial of the angle to the axis."""
    square = a * a + b * b
    share = 1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3])))
    return a * share, b * share


def _fisheye624(a: F64, b: F64, k: tuple[float, ...]) -> tuple[F64, F64]:
    """Project Aria's model: six radial terms of the angle, two tangential, four thin-prism ones."""
    square = a * a + b * b
    series = np.zeros_like(square)
    for term in k[5::-1]:
        series = square * (term + series)
    a, b = a * (1 + series), b * (1 + series)
    s = a * a + b * b
    p0, p1, s0, s1, s2, s3 = k[6:]
    tangent = 2 * (a * p0 + b * p1)
    return a + a * tangent + s * p0 + s * (s0 + s * s1), b + b * tangent + s * p1 + s * (s2 + s * s3)


def _padded(camera: Camera, k: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[float, ...]:
    if len(k) not in lengths:
        known = " or ".join(map(str, lengths))
        raise ValueError(f"camera {camera.name} has {len(k)} numbers of {camera.projection or 'opencv'} distortion; use {known}")
    return k
