"""Reads one episode's gaze: every sample with its point in the picture, its ray, how far away, how sure, and which fixation it is in."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotators.base import Batch
from annotators.gaze.config import FIXATION, OUT_OF_FRAME, SACCADE, UNTRACKED, GazeConfig
from annotators.gaze.source import ANGULAR, GazeSource
from transforms.gaze.fixations import I32, NOT, find_fixations
from transforms.gaze.geometry import cpf_direction, spread_deg, vergence
from transforms.grid import BOOL, I64, SECOND, changes
from transforms.projection import project, unproject
from transforms.rotation import F64

DEVICE_FIXATION, DEVICE_SACCADE = "fixation", "saccade"  # how BeGaze's exports name events


@dataclass(frozen=True, slots=True)
class Samples:
    """Gaze of one episode, on its clock.

    Attributes:
        t_ns: int64[N].
        xy: float64[N, 2], shares of the picture; NaN where it is not known.
        ray: float64[3, N] unit vectors in `frame`; NaN where they are not known.
        frame: `camera`, or `cpf` where Aria's gaze cannot be placed in a picture.
        how: `pixels` (told in the picture), `projected` (angles through a lens), `direction` (angles alone).
        known: bool[N], tracked.
        ahead: bool[N], false where what is looked at lies behind the camera.
        depth: float64[N] metres to what is looked at; NaN where not measured and not assumed.
        assumed: bool[N], the depth was assumed, or the eyes did not meet in front.
        sigma_deg: float64[N]; NaN where the device states no interval.
        confidence: float64[N]; NaN where it states none.
        fixation: int32[N], number of the fixation, -1 where in none.
        kind: uint8[N], see `annotators.gaze.config`.
    """

    t_ns: I64
    xy: F64
    ray: F64
    frame: str
    how: str
    known: BOOL
    ahead: BOOL
    depth: F64
    assumed: BOOL
    sigma_deg: F64
    confidence: F64
    fixation: I32
    kind: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t_ns)

    def nearest(self, t_ns: I64, within_s: float) -> I64:
        """Return the sample nearest to each instant, int64[T]; -1 where none is close enough."""
        if not len(self):
            return np.full(len(t_ns), -1, np.int64)
        right = np.clip(np.searchsorted(self.t_ns, t_ns), 1, max(len(self) - 1, 1))
        right = np.minimum(right, len(self) - 1)
        left = np.maximum(right - 1, 0)
        best = np.where(t_ns - self.t_ns[left] <= self.t_ns[right] - t_ns, left, right)
        return np.where(np.abs(self.t_ns[best] - t_ns) <= round(within_s * SECOND), best, -1)


def read_samples(batch: Batch, episode: int, source: GazeSource, config: GazeConfig) -> Samples:
    """Read the gaze of one episode of a batch; samples are put in order of time."""
    name = batch.episodes[episode]
    table = batch.stream(name, source.stream.name)
    table = table.take(pc.sort_indices(table, sort_keys=[("t_ns", "ascending")]))
    t_ns = table.column("t_ns").to_numpy().astype(np.int64)
    values = _values(table, len(source.stream.names))
    ray, xy, ahead, depth, assumed, how = _placed(values, source, config)
    known = np.isfinite(ray).all(0) if source.kind in ANGULAR else np.isfinite(xy).all(1)
    confidence = np.full(len(t_ns), np.nan) if source.confidence is None else values[:, source.confidence]
    known &= ~(confidence < config.least_confidence)
    if source.worn is not None:
        known &= ~(values[:, source.worn] <= 0)
    known &= _counted(batch, name, source, t_ns)
    sigma = np.full(len(t_ns), np.nan)
    if source.bounds:
        low_pitch, high_pitch, low_yaw, high_yaw = values[:, source.bounds].T
        sigma = np.sqrt((spread_deg(low_pitch, high_pitch) ** 2 + spread_deg(low_yaw, high_yaw) ** 2) / 2)
    fixation, quick = _events(batch, name, source, config, table, t_ns, known, ray, xy)
    kind = np.where(fixation >= 0, FIXATION, np.where(quick, SACCADE, UNTRACKED)).astype(np.uint8)
    outside = known & (~ahead | ~((xy >= 0) & (xy <= 1)).all(1)) if how != "direction" else np.zeros(len(t_ns), bool)
    kind = np.where(outside, OUT_OF_FRAME, np.where(known, kind, UNTRACKED)).astype(np.uint8)
    frame = "cpf" if how == "direction" else "camera"
    return Samples(t_ns, xy, ray, frame, how, known, ahead, depth, assumed, sigma, confidence, fixation, kind)


def _values(table: pa.Table, width: int) -> F64:
    column = table.column("values").combine_chunks()
    if not len(column):
        return np.empty((0, width))
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float64).reshape(len(column), width)


def _placed(values: F64, source: GazeSource, config: GazeConfig) -> tuple[F64, F64, BOOL, F64, BOOL, str]:
    """Return ray, point, ahead, depth, assumed and how."""
    return _from_angles(values, source, config) if source.kind in ANGULAR else _from_picture(values, source)


def _from_picture(values: F64, source: GazeSource) -> tuple[F64, F64, BOOL, F64, BOOL, str]:
    """Points told in the picture; the lens, where it is known, gives rays. A matrix counts pixels by their centres."""
    camera, told = source.camera, values[:, source.point]
    count = len(told)
    size = np.array([camera.width, camera.height], np.float64) if camera is not None else np.ones(2)
    shares = (told + 0.5) / size if source.kind == "pixels" else told.copy()
    if source.kind == "shares_up":
        shares[:, 1] = 1 - shares[:, 1]
    ray, depth = np.full((3, count), np.nan), np.full(count, np.nan)
    if camera is not None and camera.intrinsics is not None and camera.width and camera.height:
        ray, _ = unproject(camera, (shares * size - 0.5).T)
    if len(source.depth) == 3:
        depth = np.linalg.norm(values[:, source.depth], axis=1) / 1000
    return ray, shares, np.ones(count, bool), depth, np.zeros(count, bool), "pixels"


def _from_angles(values: F64, source: GazeSource, config: GazeConfig) -> tuple[F64, F64, BOOL, F64, BOOL, str]:
    """Angles in Aria's frame between the pupils, through its camera where that is calibrated and the frame's place is known."""
    angles = values[:, source.point].T
    count = values.shape[0]
    depth = values[:, source.depth[0]].copy() if len(source.depth) == 1 else np.full(count, np.nan)
    if source.kind == "vergence":
        ray, meet, ahead = vergence(*angles)
        depth = np.where(np.isfinite(depth), depth, meet)
        depth[~ahead] = np.nan  # MPS states the distance of the point behind the head where the eyes part
    else:
        ray = cpf_direction(*angles)
    assumed = ~(depth > 0)
    depth = np.where(assumed, config.assumed_m, depth)
    camera = source.camera
    if camera is None or camera.intrinsics is None or camera.extrinsics is None or not config.device_cpf:
        return ray, np.full((count, 2), np.nan), np.ones(count, bool), depth, assumed, "direction"
    device_cpf = np.array(config.device_cpf, np.float64).reshape(4, 4)
    pose = np.linalg.inv(device_cpf) @ np.array(camera.extrinsics, np.float64).reshape(4, 4)
    points = ray * depth
    pixels, ahead = project(camera, pose, points)
    seen = pose[:3, :3].T @ (points - pose[:3, 3:])
    size = np.array([camera.width, camera.height], np.float64)
    return seen / np.linalg.norm(seen, axis=0), (pixels.T + 0.5) / size, ahead, depth, assumed, "projected"


def _counted(batch: Batch, episode: str, source: GazeSource, t_ns: I64) -> BOOL:
    """Return bool[N]: samples while the device was worn and no blink was going on."""
    keep = np.ones(len(t_ns), bool)
    if "worn" in source.beside:
        worn = batch.stream(episode, "worn")
        if worn.num_rows:
            when, value = worn.column("t_ns").to_numpy(), _values(worn, 1)[:, 0]
            order = np.argsort(when, kind="stable")
            at = np.maximum(np.searchsorted(when[order], t_ns, side="right") - 1, 0)
            keep &= value[order][at] > 0
    if "blinks" in source.beside:
        for start, stop in _spans(batch.stream(episode, "blinks")):
            keep &= (t_ns < start) | (t_ns >= stop)
    return keep


def _events(
    batch: Batch, episode: str, source: GazeSource, config: GazeConfig, table: pa.Table, t_ns: I64, known: BOOL, ray: F64, xy: F64
) -> tuple[I32, BOOL]:
    """Return the number of each sample's fixation, and which of the others are saccades (known to move, not merely short)."""
    if config.events in ("auto", "recorded"):
        told = _device_events(batch, episode, source, table, t_ns, known)
        if told is not None:
            return told
        if config.events == "recorded":
            return np.full(len(t_ns), NOT, np.int32), np.zeros(len(t_ns), bool)
    use_rays = source.rays and bool(np.isfinite(ray[:, known]).any())
    width = source.camera.width / source.camera.height if source.camera is not None and source.camera.height else 1.0
    place = ray if use_rays else np.stack([xy[:, 0], xy[:, 1] / width])
    found = find_fixations(t_ns, place, known & np.isfinite(place).all(0), config.rule(use_rays))
    return found, known & (found < 0)


def _device_events(
    batch: Batch, episode: str, source: GazeSource, table: pa.Table, t_ns: I64, known: BOOL
) -> tuple[I32, BOOL] | None:
    """Return what the device itself calls fixations and saccades; None where it says nothing."""
    told = table.column("text")
    texts = [] if told.null_count == len(told) else [(t or "").lower() for t in told.to_pylist()]
    if any(DEVICE_FIXATION in t for t in texts):
        still = np.array([DEVICE_FIXATION in t for t in texts], np.bool_) & known
        return _numbered(still), np.array([DEVICE_SACCADE in t for t in texts], np.bool_) & known
    if "fixations" not in source.beside:
        return None
    rows = batch.stream(episode, "fixations")
    names = next(s.names for s in batch.contract.streams if s.name == "fixations")
    if rows.num_rows and "is_fixation" in names:  # Neon lists saccades in the same file
        rows = rows.filter(pa.array(_values(rows, len(names))[:, names.index("is_fixation")] > 0))
    if not rows.num_rows:
        return None
    number = np.full(len(t_ns), NOT, np.int32)
    for at, (start, stop) in enumerate(_spans(rows)):
        number[(t_ns >= start) & (t_ns < stop) & known] = at
    return number, known & (number < 0)


def _numbered(still: BOOL) -> I32:
    """Return the number of each run of true, int32[N]; -1 elsewhere."""
    begins = changes(still) & still
    return np.where(still, np.cumsum(begins) - 1, NOT).astype(np.int32)


def _spans(rows: pa.Table) -> list[tuple[int, int]]:
    """Return start and end of spans, in order; those without an end are none."""
    pairs = zip(rows.column("t_ns").to_pylist(), rows.column("end_ns").to_pylist(), strict=True)
    return sorted((start, stop) for start, stop in pairs if stop is not None)
