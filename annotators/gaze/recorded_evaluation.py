"""How good recorded gaze is on its steps: how much of it there is, whether its clock is the pictures', whether its geometry closes."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, bootstrap, not_measurable, ratio, verdict
from annotators.gaze.config import FIXATION, OUT_OF_FRAME
from annotators.gaze.samples import Samples, read_samples
from annotators.gaze.source import GazeSource, find_gaze
from annotators.gaze.stabilise import SHIFTS_MS, correlation, in_fixations, peak_ms, picture_motion, ride
from annotators.spans import episodes_of
from transforms.gaze.fixations import NOT
from transforms.projection import project, unproject
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.gaze.recorded import RecordedGaze

COVERED, LAG, RIDES, CLOSES = "gaze_coverage", "gaze_lag_ms", "gaze_rides_on_picture", "gaze_round_trip_px"
METRICS = (COVERED, LAG, RIDES, CLOSES)
LEAST_PAIRS = 30
WORST_LAG_MS = 40.0
LEAST_RIDE = 0.2
WORST_PX = 0.1


def evaluate_recorded(annotator: "RecordedGaze", batch: Batch) -> tuple[QualityReport, ...]:
    """Measure coverage, clock and geometry."""
    source = find_gaze(batch.contract, annotator.config)
    if isinstance(source, str) or not batch.episodes:
        return tuple(not_measurable(m, source if isinstance(source, str) else "no episodes") for m in METRICS)
    samples = [read_samples(batch, e, source, annotator.config) for e in range(len(batch.episodes))]
    return _coverage(annotator, batch), *_clock(batch, source, samples), _geometry(source, samples)


def _coverage(annotator: "RecordedGaze", batch: Batch) -> QualityReport:
    """Report the share of steps with gaze, and what the others, and those outside of fixations, are: nothing is left out silently."""
    rows = annotator.run(batch)
    owner, valid = episodes_of(rows, batch), rows.column("valid").to_numpy()
    kind = rows.column("type").fill_null(255).to_numpy()
    count = np.bincount(owner, minlength=len(batch.episodes)).astype(np.float64)
    value, interval = ratio(np.bincount(owner, valid, len(batch.episodes)).astype(np.float64), count)
    reasons = [r for r in rows.column("reason").to_pylist() if r]
    detail = {r: reasons.count(r) / rows.num_rows for r in sorted(set(reasons))}
    placed = rows.column("xy").is_valid().to_numpy()
    shares = {
        "fixations_only": float((kind == FIXATION).mean()),
        "in_the_picture": float((placed & (kind != OUT_OF_FRAME)).mean()),
    }
    return QualityReport(
        COVERED, value, interval, len(batch.episodes), rows.num_rows, "all", shares, verdict(value >= 0.5),
        "the device's own samples", "at least half of the steps", detail,
    )  # fmt: skip


def _clock(batch: Batch, source: GazeSource, samples: list[Samples]) -> tuple[QualityReport, QualityReport]:
    """Slide gaze against the picture it lies on: the highest correlation must be at no shift, and high."""
    clips = batch.clips.get(source.camera.name, ()) if source.camera is not None else ()
    moves = [picture_motion(clip, in_fixations(clip, s)) for clip, s in zip(clips, samples, strict=True)] if clips else []
    rides = [ride(m, s) for m, s in zip(moves, samples, strict=False)]
    middle = len(SHIFTS_MS) // 2
    pairs = int(sum(r.pairs[middle] for r in rides))
    if pairs < LEAST_PAIRS:
        why = f"{pairs} pairs of pictures inside fixations, {LEAST_PAIRS} are needed" if clips else "no pictures beside gaze"
        return not_measurable(LAG, why), not_measurable(RIDES, why)
    curve, truth = correlation(rides), "motion of the picture under the point of gaze, inside fixations"
    lag = float(peak_ms(curve))
    spread = bootstrap(lambda draws: peak_ms(correlation(rides, draws)), len(rides))
    close = np.abs(SHIFTS_MS) <= WORST_LAG_MS
    height = bootstrap(lambda draws: correlation(rides, draws)[:, close].max(-1), len(rides))
    twins = {
        name: correlation([ride(m, _twin(s, name)) for m, s in zip(moves, samples, strict=True)])
        for name in ("mirrored", "flipped", "other_time")
    }
    detail = {"correlation_at_0": float(curve[middle]), "pairs": pairs}
    first = QualityReport(
        LAG, abs(lag), None if spread is None else _folded(spread), len(rides), pairs, "all",
        {f"{n}_gaze": abs(float(peak_ms(c))) for n, c in twins.items()}, verdict(abs(lag) <= WORST_LAG_MS and curve.max() >= LEAST_RIDE),
        truth, f"at most {WORST_LAG_MS:g} ms, either way", detail | {"signed_ms": lag},
    )  # fmt: skip
    top = float(curve[close].max())
    second = QualityReport(
        RIDES, top, height, len(rides), pairs, "all", {f"{n}_gaze": float(c[close].max()) for n, c in twins.items()},
        verdict(top >= LEAST_RIDE and all(top > c[close].max() for c in twins.values())), truth,
        f"within {WORST_LAG_MS:g} ms of no shift, at least {LEAST_RIDE:g} and above every twin", detail,
    )  # fmt: skip
    return first, second


def _twin(samples: Samples, name: str) -> Samples:
    """Return gaze that is wrong: mirrored, upside down, or half an episode late."""
    xy, fixation = samples.xy.copy(), samples.fixation
    if name == "mirrored":
        xy[:, 0] = 1 - xy[:, 0]
    elif name == "flipped":
        xy[:, 1] = 1 - xy[:, 1]
    else:
        half = len(samples) // 2
        xy, fixation = np.roll(xy, half, 0), np.roll(fixation, half)
        fixation = np.where(np.arange(len(samples)) == half, NOT, fixation).astype(np.int32)
    return replace(samples, xy=xy, fixation=fixation)


def _folded(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))


def _geometry(source: GazeSource, samples: list[Samples]) -> QualityReport:
    """Send every ray through the lens and back: the pixel must be where it was."""
    camera = source.camera
    if camera is None or camera.intrinsics is None or not camera.width:
        return not_measurable(CLOSES, "no calibrated camera")
    worst, count = list[F64](), 0
    size = np.array([camera.width, camera.height], np.float64)[:, None]
    for s in samples:
        inside = s.known & (s.kind != OUT_OF_FRAME) & np.isfinite(s.ray).all(0)
        pixels = s.xy[inside].T * size - 0.5
        rays, found = unproject(camera, pixels)
        back, _ = project(camera, np.eye(4), rays)
        worst.append(np.where(found, np.hypot(*(back - pixels)), np.inf))
        count += int(inside.sum())
    errors = np.concatenate(worst) if worst else np.empty(0)
    if not len(errors):
        return not_measurable(CLOSES, "no gaze in the picture")
    nearest = {"without_the_lens": float(np.max(np.abs(_pinhole_error(source, samples))))}
    value = float(errors.max())
    return QualityReport(
        CLOSES, value if np.isfinite(value) else 1e9, None, len(samples), count, "all", nearest, verdict(value < WORST_PX),
        "the lens itself, there and back", f"below {WORST_PX:g} px everywhere",
    )  # fmt: skip


def _pinhole_error(source: GazeSource, samples: list[Samples]) -> F64:
    """Return how far off, in pixels, the same rays would be drawn if the lens did not bend: float64[N]."""
    camera = source.camera
    assert camera is not None
    plain = replace(camera, projection="pinhole", distortion=None)
    size = np.array([camera.width, camera.height], np.float64)[:, None]
    found: list[F64] = [np.zeros(1, np.float64)]
    for s in samples:
        inside = s.known & (s.kind != OUT_OF_FRAME) & np.isfinite(s.ray).all(0)
        pixels, ahead = project(plain, np.eye(4), s.ray[:, inside])
        found.append(np.asarray(np.where(ahead, np.hypot(*(pixels - (s.xy[inside].T * size - 0.5))), 0.0), np.float64))
    return np.concatenate(found)
