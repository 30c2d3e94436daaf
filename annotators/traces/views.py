"""Where a camera sees the points of an episode: by its declared or recorded calibration, or one found from pairs of points and pixels."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.clips import colour_cameras
from schemas.contract import Camera, Contract
from transforms.camera_fit import FittedCamera, fit_camera
from transforms.grid import BOOL
from transforms.projection import project
from transforms.rotation import F64, to_matrix

VIEW, PIXEL = "camera_view.", ("hand_pixel.", "tip_pixel.")  # signals of simulators, and of whoever pointed at the tip
How = Literal["calibrated", "dlt", "recorded"]
Wanted = Literal["auto", "calibrated", "dlt", "recorded"]
FIT_PX = 6.0  # per 256 pixels of picture: pairs further off do not agree


@dataclass(frozen=True, slots=True)
class View:
    """One camera of one episode.

    Attributes:
        how: `calibrated`, `dlt` (found from pairs) or `recorded` (pixels told directly).
        camera: with its intrinsics where they are known.
        poses: float64[4, 4], or float64[T, 4, 4] of a camera that moves; None for `dlt` and `recorded`.
        fitted: of `dlt`.
        pixels: float64[2, T] of `recorded`.
        rmse_px: reprojection error of the pairs, of `dlt`.
    """

    how: How
    camera: Camera
    poses: F64 | None = None
    fitted: FittedCamera | None = None
    pixels: F64 | None = None
    rmse_px: float | None = None

    def pose(self, step: int) -> F64 | None:
        """Return T_base_camera at a step of the episode, float64[4, 4]; None where it is not known."""
        return self.poses[step] if self.poses is not None and self.poses.ndim == 3 else self.poses

    def track(self, points: F64, step: int = 0) -> tuple[F64, BOOL]:
        """Return where the picture of `step` shows every point of the episode, float64[2, T], and which lie in front of the camera."""
        if self.pixels is not None:
            return self.pixels, np.isfinite(self.pixels[0]) & np.isfinite(self.pixels[1])
        if self.fitted is not None:
            return self.fitted.project(points)
        pose = self.pose(step)
        assert pose is not None
        return project(self.camera, pose, points)


def choose_camera(contract: Contract, name: str | None, how: Wanted) -> Camera | str:
    """Return the camera to draw in: the named one, else the first exterior one that something is known about.

    Returns:
        The camera, or why there is none: `no_camera`, `no_calibration`, `no_picture_size`.
    """
    known = colour_cameras(contract, () if name is None else (name,))
    if not known:
        return "no_camera"
    usable = [c for c in known if _ways(contract, c, how)]
    if not usable:
        return "no_calibration"
    best = min(usable, key=lambda c: (c.role != "exterior", known.index(c)))
    return best if best.width and best.height else "no_picture_size"


def view_streams(contract: Contract, camera: Camera) -> tuple[str, ...]:
    """Name the signals that say where the camera or the tip in it is."""
    names = {s.name for s in contract.streams}
    return tuple(n for n in (VIEW + camera.name, *(p + camera.name for p in PIXEL)) if n in names)


def open_view(batch: Batch, episode: int, camera: Camera, points: F64, how: Wanted) -> View | str:
    """Return how the camera saw one episode, or why that is not known.

    Args:
        batch: with the signals of `view_streams`.
        episode: its place in the batch.
        camera: which.
        points: float64[3, T] of the episode, for pairs.
        how: the only way allowed, or `auto`: a calibration before a fit.
    """
    if how in ("auto", "calibrated"):
        found = _calibrated(batch, episode, camera)
        if found is not None or how == "calibrated":
            return found or "no_calibration"
    pixels = recorded_pixels(batch, episode, camera)
    if pixels is None:
        return "no_calibration"
    if how == "recorded":
        return View("recorded", camera, pixels=pixels)
    fitted = fit_camera(points, pixels, FIT_PX * max(camera.width, camera.height) / 256)
    return fitted if isinstance(fitted, str) else View("dlt", camera, fitted=fitted, rmse_px=fitted.rmse)


def recorded_pixels(batch: Batch, episode: int, camera: Camera) -> F64 | None:
    """Return the pixels somebody told for each step, float64[2, T_e], NaN where nobody did; None where there is no such signal."""
    a, b = batch.starts[episode], batch.starts[episode + 1]
    for prefix in PIXEL:
        rows = _stream(batch, episode, prefix + camera.name)
        if rows is None:
            continue
        told = np.array(rows.column("values").to_pylist(), np.float64)[:, :2].T
        near = np.searchsorted(batch.t_ns[a:b], rows.column("t_ns").to_numpy(), side="right") - 1
        exact = (near >= 0) & (np.abs(batch.t_ns[a:b][np.maximum(near, 0)] - rows.column("t_ns").to_numpy()) <= 1_000_000)
        pixels = np.full((2, b - a), np.nan)
        pixels[:, near[exact]] = told[:, exact]
        return pixels
    return None


def _ways(contract: Contract, camera: Camera, how: Wanted) -> bool:
    signals = view_streams(contract, camera)
    calibrated = (camera.intrinsics is not None and camera.extrinsics is not None) or VIEW + camera.name in signals
    told = any(s.startswith(PIXEL) for s in signals)
    return (how in ("auto", "calibrated") and calibrated) or (how != "calibrated" and told)


def _calibrated(batch: Batch, episode: int, camera: Camera) -> View | None:
    rows = _stream(batch, episode, VIEW + camera.name)
    if rows is not None:
        values = np.array(rows.column("values").to_pylist(), np.float64)
        fx, fy, cx, cy = values[0, :4].tolist()
        poses = np.tile(np.eye(4), (len(values), 1, 1))
        poses[:, :3, :3] = to_matrix(values[:, 7:11].T).transpose(2, 0, 1)
        poses[:, :3, 3] = values[:, 4:7]
        lens = replace(camera, intrinsics=(fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0))
        if len(values) == 1:
            return View("calibrated", lens, poses[0])
        a, b = batch.starts[episode], batch.starts[episode + 1]
        held = np.maximum(np.searchsorted(rows.column("t_ns").to_numpy(), batch.t_ns[a:b] + 1_000_000, side="right") - 1, 0)
        return View("calibrated", lens, poses[held])
    if camera.intrinsics is None or camera.extrinsics is None:
        return None
    return View("calibrated", camera, np.array(camera.extrinsics, np.float64).reshape(4, 4))


def _stream(batch: Batch, episode: int, name: str) -> pa.Table | None:
    if batch.streams is None or name not in {s.name for s in batch.contract.streams}:
        return None
    rows = batch.stream(batch.episodes[episode], name)
    return rows if rows.num_rows else None


def seen_at(view: View, points: F64) -> tuple[F64, BOOL]:
    """Return where the picture of each step shows that step's own point, pixels float64[2, T], and which lie in front."""
    if view.poses is None or view.poses.ndim == 2:
        return view.track(points)
    return project(view.camera, view.poses, points)
