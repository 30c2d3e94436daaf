"""Does pseudo-gaze lie on what is touched? Against recorded poses of objects; never against anybody's gaze."""

from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, bootstrap, not_measurable, verdict
from annotators.motion.things import object_places
from annotators.spans import episodes_of
from annotators.traces.hand import read_hand
from annotators.traces.views import open_view
from transforms.grid import I64
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.gaze.pseudo import PseudoGaze

ERROR = "pseudo_gaze_to_touched_thing"
MAYBE_M = 0.15  # a gripper that closes further from every object touches none


def evaluate_pseudo(annotator: "PseudoGaze", batch: Batch) -> tuple[QualityReport, ...]:
    """Measure the distance, in widths of the picture, between the point before the gripper closes and the object it closes on."""
    from annotators.gaze.pseudo import seen_at

    found = annotator.usable(batch.contract)
    if isinstance(found, str):
        return (not_measurable(ERROR, found),)
    source, camera = found
    places = object_places(batch)
    if not places:
        return (not_measurable(ERROR, "no recorded pose of any object"),)
    rows = annotator.run(batch)
    owner = episodes_of(rows, batch)
    hand = read_hand(batch, source, annotator.config.tip_m)
    xy = np.array([v or (np.nan, np.nan) for v in rows.column("xy").to_pylist()], np.float64)
    size, wide = np.array([camera.width, camera.height], np.float64), np.array([1.0, camera.height / camera.width])
    truth, tip = np.full(xy.shape, np.nan), np.full(xy.shape, np.nan)
    for e in range(len(batch.episodes)):
        a, b = int(batch.starts[e]), int(batch.starts[e + 1])
        view = open_view(batch, e, camera, hand.tip[:, a:b], "calibrated")
        if isinstance(view, str):
            continue
        target, until = annotator.targets(batch.t_ns[a:b], hand.part(a, b))
        until = np.where(hand.event[a:b][target] < 0, until, np.nan)  # what it opens over is in the hand already
        truth[a:b] = (seen_at(view, _touched(places, hand.tip[:, a:b], target, until, a))[0].T + 0.5) / size
        tip[a:b] = (seen_at(view, hand.tip[:, a:b])[0].T + 0.5) / size
    use = np.isfinite(truth).all(1) & np.isfinite(xy).all(1) & np.isfinite(tip).all(1)
    if not use.any():
        return (not_measurable(ERROR, f"no contact within {MAYBE_M} m of an object"),)
    rolled = np.concatenate([np.roll(xy[a:b], (b - a) // 2, 0) for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True)])
    ways = {"": xy, "hand_now": tip, "centre": np.full(xy.shape, 0.5), "other_time": rolled}
    error = {name: np.linalg.norm((p - truth) * wide, axis=1) for name, p in ways.items()}
    use &= np.isfinite(error["other_time"])
    sums = {name: np.bincount(owner[use], e[use], len(batch.episodes)) for name, e in error.items()}
    count = np.bincount(owner[use], minlength=len(batch.episodes)).astype(np.float64)

    def mean(draws: F64) -> F64:
        return (draws @ sums[""]) / np.maximum(draws @ count, 1e-12)

    value = float(sums[""].sum() / count.sum())
    others = {name: float(s.sum() / count.sum()) for name, s in sums.items() if name}
    return (
        QualityReport(
            ERROR, value, bootstrap(mean, len(batch.episodes)), len(batch.episodes), int(use.sum()), "all", others,
            verdict(value < min(others.values())), "recorded poses of objects", "nearer than the hand, the centre and other times",
        ),
    )  # fmt: skip


def _touched(places: dict[str, F64], tip: F64, target: I64, until: F64, offset: int) -> F64:
    """Return where the object that will be touched is at each step, float64[3, T]; NaN where none will be."""
    count = tip.shape[1]
    every = np.stack([p[:, offset : offset + count] for p in places.values()])  # [K, 3, T]
    away = np.linalg.norm(every[:, :, target] - tip[:, target], axis=1)
    away = np.where(np.isfinite(away), away, np.inf)
    nearest = away.argmin(0)
    touched = every[nearest, :, np.arange(count)].T
    return np.where(np.isfinite(until) & (away.min(0) <= MAYBE_M), touched, np.nan)
