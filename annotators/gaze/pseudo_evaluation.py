"""Does pseudo-gaze lie on what is touched? Against recorded poses of objects; never against anybody's gaze."""

from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.motion.source import MotionSource
from annotators.motion.things import object_places
from annotators.spans import episodes_of
from annotators.traces.hand import read_hand
from annotators.traces.views import open_view, seen_at
from schemas.contract import Camera
from transforms.grid import I64
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.gaze.pseudo import PseudoGaze

ERROR = "pseudo_gaze_to_touched_thing"
MAYBE_M = 0.15  # a gripper that closes further from every object touches none


def evaluate_pseudo(annotator: "PseudoGaze", batch: Batch) -> tuple[QualityReport, ...]:
    """Measure the distance, in widths of the picture, between the point before the gripper closes and the object it closes on."""
    found = annotator.usable(batch.contract)
    if isinstance(found, str):
        return (not_measurable(ERROR, found),)
    source, camera = found
    places = object_places(batch)
    if not places:
        return (not_measurable(ERROR, "no recorded pose of any object"),)
    rows = annotator.run(batch)
    owner = episodes_of(rows, batch)
    xy = np.array([v or (np.nan, np.nan) for v in rows.column("xy").to_pylist()], np.float64)
    truth, tip = _truth(annotator, batch, source, camera, places)
    starts = zip(batch.starts[:-1], batch.starts[1:], strict=True)
    rolled = np.concatenate([np.roll(xy[a:b], (b - a) // 2, 0) for a, b in starts])
    ways = {"": xy, "hand_now": tip, "centre": np.full(xy.shape, 0.5), "other_time": rolled}
    wide = np.array([1.0, camera.height / camera.width])
    error = {name: np.linalg.norm((p - truth) * wide, axis=1) for name, p in ways.items()}
    use = np.logical_and.reduce([np.isfinite(e) for e in error.values()])
    if not use.any():
        return (not_measurable(ERROR, f"no contact within {MAYBE_M} m of an object"),)
    count = np.bincount(owner[use], minlength=len(batch.episodes)).astype(np.float64)
    value, interval = ratio(np.bincount(owner[use], error[""][use], len(batch.episodes)).astype(np.float64), count)
    others = {name: float(e[use].mean()) for name, e in error.items() if name}
    return (
        QualityReport(
            ERROR, value, interval, len(batch.episodes), int(use.sum()), "all", others, verdict(value < min(others.values())),
            "recorded poses of objects", "nearer than the hand, the centre and other times",
        ),
    )  # fmt: skip


def _truth(
    annotator: "PseudoGaze", batch: Batch, source: MotionSource, camera: Camera, places: dict[str, F64]
) -> tuple[F64, F64]:
    """Return where the picture of each step shows what the gripper will close on, and the hand: float64[T, 2] each, NaN if not known."""
    hand = read_hand(batch, source, annotator.config.tip_m)
    size = np.array([camera.width, camera.height], np.float64)
    truth, tip = (np.full((batch.steps.num_rows, 2), np.nan) for _ in range(2))
    for e in range(len(batch.episodes)):
        a, b = int(batch.starts[e]), int(batch.starts[e + 1])
        view = open_view(batch, e, camera, hand.tip[:, a:b], "calibrated")
        if isinstance(view, str):
            continue
        target, until = annotator.targets(batch.t_ns[a:b], hand.part(a, b))
        until = np.where(hand.event[a:b][target] < 0, until, np.nan)  # what it opens over is in the hand already
        truth[a:b] = (seen_at(view, _touched(places, hand.tip[:, a:b], target, until, a))[0].T + 0.5) / size
        tip[a:b] = (seen_at(view, hand.tip[:, a:b])[0].T + 0.5) / size
    return truth, tip


def _touched(places: dict[str, F64], tip: F64, target: I64, until: F64, offset: int) -> F64:
    """Return where the object that will be touched is at each step, float64[3, T]; NaN where none will be."""
    count = tip.shape[1]
    every = np.stack([p[:, offset : offset + count] for p in places.values()])  # [K, 3, T]
    away = np.linalg.norm(every[:, :, target] - tip[:, target], axis=1)
    away = np.where(np.isfinite(away), away, np.inf)
    nearest = away.argmin(0)
    touched = every[nearest, :, np.arange(count)].T
    return np.where(np.isfinite(until) & (away.min(0) <= MAYBE_M), touched, np.nan)
