"""How good are traces? Pixels and poses against a simulator's truth, lines against the whole path, and whether they tell the action.

Every metric takes the views or rows it judges, so that adversarial twins (a camera turned by three degrees, points in random order,
traces of other times) go the same way as the annotator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, bootstrap, folds, not_measurable, ratio, verdict
from annotators.motion.read import step_column
from annotators.traces.draw import Line, draw, waypoints
from annotators.traces.hand import Hand, read_hand
from annotators.traces.views import View, open_view, recorded_pixels
from transforms.camera_fit import LEAST, fit_camera
from transforms.codec.spline import through
from transforms.codec.waypoints import rebuild
from transforms.grid import I64, SECOND
from transforms.polyline import Sampling, dynamic_time_warping
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.traces.trace import Trace

METRICS = ("pixel_error", "dlt_pixel_error", "line_distance", "waypoint_error", "predictiveness")
CALIBRATED_PX, DLT_PX = 1.0, 4.0  # at 256 pixels
type Disturb = Callable[[View], View]


@dataclass(frozen=True, slots=True)
class Scene:
    """One episode as it is judged: the view used, the tip, the hand, seconds, and the pixels a simulator tells (NaN where it does not)."""

    view: View
    tip: F64
    hand: Hand
    seconds: F64
    truth: F64 | None
    rows: slice

    @property
    def scale(self) -> float:
        """From pixels to pixels at 256."""
        return 256 / max(self.view.camera.width, self.view.camera.height)

    def found(self) -> F64:
        """Return the pixel of the tip at every step, each in its own picture, float64[2, T]."""
        if self.view.poses is None or self.view.poses.ndim == 2:
            return self.view.track(self.tip)[0]
        return np.concatenate([self.view.track(self.tip[:, i : i + 1], i)[0] for i in range(self.tip.shape[1])], axis=1)


def evaluate_traces(annotator: "Trace", batch: Batch, disturb: Disturb | None = None) -> tuple[QualityReport, ...]:
    """Return every report of sheet 6.4; `disturb` spoils the views, to put a twin in their place."""
    scenes = read_scenes(annotator, batch, disturb)
    if isinstance(scenes, str):
        return tuple(not_measurable(name, scenes) for name in METRICS)
    return (
        pixel_error(scenes),
        dlt_pixel_error(scenes),
        line_distance(annotator, scenes),
        waypoint_error(annotator, scenes),
        predictiveness(annotator, batch, scenes),
    )


def read_scenes(annotator: "Trace", batch: Batch, disturb: Disturb | None = None) -> list[Scene] | str:
    """Open every episode; those whose view is not known are left out, and the first reason is told where none is left."""
    usable = annotator.usable(batch.contract)
    if isinstance(usable, str):
        return usable
    source, camera = usable
    if not batch.episodes:
        return "no episode"
    hand, scenes, why = read_hand(batch, source, annotator.config.tip_m), list[Scene](), ""
    for episode in range(len(batch.episodes)):
        a, b = int(batch.starts[episode]), int(batch.starts[episode + 1])
        if not hand.finite[a:b].all():
            continue
        tip = hand.tip[:, a:b]
        view = open_view(batch, episode, camera, tip, annotator.config.how)
        if isinstance(view, str):
            why = why or view
            continue
        seconds = (batch.t_ns[a:b] - batch.t_ns[a]) * (1 / SECOND)
        truth = recorded_pixels(batch, episode, camera)
        scenes.append(Scene(disturb(view) if disturb else view, tip, hand.part(a, b), seconds, truth, slice(a, b)))
    return scenes or why or "no episode has a finite hand position"


def pixel_error(scenes: list[Scene]) -> QualityReport:
    """Median distance, at 256 pixels, from the drawn tip to where the simulator's renderer has it. Baseline: the path's mean pixel."""
    fitted = scenes[0].view.how == "dlt"
    limit = DLT_PX if fitted else CALIBRATED_PX
    goal = f"below {limit:g} px at 256 ({'found' if fitted else 'known'} camera)"
    told = [s for s in scenes if s.truth is not None and np.isfinite(s.truth).any()]
    if not told or any(s.view.how == "recorded" for s in told):
        return not_measurable("pixel_error", "nobody told where the tip is, or the pixels are the recorded ones", goal)
    gaps = [_gap(s.found(), s) for s in told]
    lazy = [_gap(np.nanmean(s.truth, axis=1, keepdims=True), s) for s in told if s.truth is not None]
    return _pixels("pixel_error", gaps, lazy, limit, goal, "the simulator's renderer")


def dlt_pixel_error(scenes: list[Scene]) -> QualityReport:
    """The same of a camera found from every other pair, on the pairs it has not seen."""
    goal = f"below {DLT_PX:g} px at 256"
    gaps, lazy, refused = list[F64](), list[F64](), list[str]()
    for scene in scenes:
        if (
            scene.truth is None
            or np.isfinite(scene.truth[0]).sum() < 2 * LEAST
            or (scene.view.poses is not None and scene.view.poses.ndim == 3)
        ):
            continue
        half = scene.truth.copy()
        half[:, 1::2] = np.nan
        found = fit_camera(scene.tip, half, 6.0 / scene.scale)
        if isinstance(found, str):
            refused.append(found)
            continue
        rest = np.where(np.isfinite(half), np.nan, scene.truth)
        held = Scene(scene.view, scene.tip, scene.hand, scene.seconds, rest, scene.rows)
        gaps.append(_gap(found.project(scene.tip)[0], held))
        lazy.append(_gap(np.nanmean(half, axis=1, keepdims=True), held))
    if not gaps:
        why = refused[0] if refused else f"no still camera with {2 * LEAST} pairs"
        return not_measurable("dlt_pixel_error", why, goal)
    return _pixels("dlt_pixel_error", gaps, lazy, DLT_PX, goal, "the simulator's renderer, every other pair")


def line_distance(annotator: "Trace", scenes: list[Scene]) -> QualityReport:
    """Mean distance, at 256 pixels and after time warping, from the drawn polyline to the whole path it stands for.

    Baselines: a straight line from first to last point, and as many points evenly in time.
    """
    config, mine, straight, even = annotator.config, list[float](), list[float](), list[float]()
    owner: list[int] = []
    for at, scene in enumerate(scenes):
        for steps in _stretches(scene):
            track, ahead = scene.view.track(scene.tip, steps.start)
            if not ahead[steps].all():
                continue
            path = track[:, steps].T
            ways: tuple[tuple[Sampling, int], ...] = (
                (config.sampling, config.points),
                ("uniform_time", 2),
                ("uniform_time", config.points),
            )
            found = [draw(scene.view, scene.tip, scene.hand, steps, scene.seconds, *way, config.tolerance) for way in ways]
            lines = [line for line in found if isinstance(line, Line)]
            if len(lines) == 3:
                for values, line in zip((mine, straight, even), lines, strict=True):
                    values.append(_line_gap(line, path, scene))
                owner.append(at)
    if not mine:
        return not_measurable("line_distance", "no stretch is in front of the camera")
    count = np.bincount(owner, minlength=len(scenes)).astype(np.float64)
    value, ci = ratio(np.bincount(owner, mine, len(scenes)).astype(np.float64), count)
    others = {"straight_line": float(np.mean(straight)), "uniform_time": float(np.mean(even))}
    return QualityReport(
        "line_distance", value, ci, len(scenes), len(mine), "all", others, verdict(value < others["straight_line"]),
        "the projected path", "below a straight line", {"beats_uniform_time": bool(value < others["uniform_time"])},
    )  # fmt: skip


def waypoint_error(annotator: "Trace", scenes: list[Scene], seed: int | None = None) -> QualityReport:
    """Root mean square distance in millimetres from the curve through the waypoints to every step.

    Baselines: splines and straight lines through as many poses evenly in time. `seed` puts a twin in place: as many poses at random.
    """
    config, mine, even, sizes, owner = annotator.config, list[float](), list[tuple[float, float]](), list[int](), list[int]()
    random = np.random.Generator(np.random.Philox(seed or 0))
    for at, scene in enumerate(scenes):
        for steps in _stretches(scene):
            found = waypoints(scene.tip, scene.hand, steps, scene.seconds, config.waypoint_m, config.waypoints, None)
            clock, track = scene.seconds[steps] - scene.seconds[steps.start], scene.tip[:, steps].T
            count = len(found.seconds)
            regular = np.unique(np.rint(np.linspace(0, len(clock) - 1, count)).astype(int))
            if seed is not None:
                inner = random.choice(np.arange(1, len(clock) - 1), min(count - 2, len(clock) - 2), replace=False)
                mine.append(_spline_gap(np.sort([0, *inner, len(clock) - 1]), clock, track))
            else:
                mine.append(found.rmse_m**2)
            even.append(
                (
                    _spline_gap(regular, clock, track),
                    float(((rebuild(regular, track[regular], len(track), clock) - track) ** 2).sum(1).mean()),
                )
            )
            sizes.append(count)
            owner.append(at)
    if not mine:
        return not_measurable("waypoint_error", "no stretch of motion")
    above, below = (
        np.bincount(owner, mine, len(scenes)).astype(np.float64),
        np.bincount(owner, minlength=len(scenes)).astype(np.float64),
    )
    value = 1000 * float(np.sqrt(above.sum() / below.sum()))
    ci = bootstrap(lambda draws: 1000 * np.sqrt((draws @ above) / np.maximum(draws @ below, 1e-12)), len(scenes))
    splines, lines = (1000 * np.sqrt(np.mean(even, axis=0))).tolist()
    return QualityReport(
        "waypoint_error", value, ci, len(scenes), len(mine), "all", {"uniform_time_spline": splines, "uniform_time_linear": lines}, verdict(value < min(splines, lines)),
        "recorded positions", "below both, of as many poses evenly in time", {"unit": "mm", "mean_waypoints": float(np.mean(sizes))},
    )  # fmt: skip


def predictiveness(annotator: "Trace", batch: Batch, scenes: list[Scene], shuffle: bool = False) -> QualityReport:
    """How much a trace lowers the error of a linear action predictor: 1 - error(state, trace) / error(state), held-out episodes.

    Baseline: the same with traces of other times of the same episode. `shuffle` puts that twin in place.
    """
    goal = "above time-shuffled traces, intervals apart"
    action = next(
        (f for f in batch.contract.features if f.role == "action" and f.dtype.startswith("float") and not f.privileged), None
    )
    if action is None or action.name not in batch.steps.column_names or len(scenes) < 3:
        return not_measurable("predictiveness", "no actions, or too few episodes to hold one out", goal)
    actions = step_column(batch.steps.column(action.name)).T
    owner, states, lines, wanted = list[int](), list[F64](), list[F64](), list[F64]()
    for at, scene in enumerate(scenes):
        for start in range(0, len(scene.seconds) - 4, max(1, len(scene.seconds) // 60)):
            steps = slice(start, int(np.searchsorted(scene.seconds, scene.seconds[start] + 1.0, side="right")))
            line = draw(scene.view, scene.tip, scene.hand, steps, scene.seconds, "uniform_time", annotator.config.points, 0.01)
            target = actions[scene.rows][start]
            if isinstance(line, str) or not np.isfinite(target).all():
                continue
            points = np.concatenate([line.points, np.repeat(line.points[-1:], annotator.config.points - len(line.points), 0)])
            lines.append((points[1:].astype(np.float64) - points[:1]).reshape(-1))
            states.append(scene.tip[:, start])
            wanted.append(target)
            owner.append(at)
    return _predict(np.array(owner), np.array(states), np.array(lines), np.array(wanted), batch, len(scenes), goal, shuffle)


def _predict(
    owner: I64, states: F64, lines: F64, wanted: F64, batch: Batch, count: int, goal: str, shuffle: bool
) -> QualityReport:
    if len(owner) < 20:
        return not_measurable("predictiveness", "too few traces", goal)
    random = np.random.Generator(np.random.Philox(0))
    mixed = lines.copy()
    for at in np.unique(owner):
        places = np.flatnonzero(owner == at)
        mixed[places] = lines[random.permutation(places)]
    part = folds([str(i) for i in range(count)])[owner]
    alone = _errors(states, wanted, part)
    with_line = _errors(np.concatenate([states, mixed if shuffle else lines], 1), wanted, part)
    with_mixed = _errors(np.concatenate([states, mixed], 1), wanted, part)
    sums = [np.bincount(owner, e, count).astype(np.float64) for e in (alone, with_line, with_mixed)]
    value, ci = ratio(sums[0] - sums[1], sums[0])
    gain = bootstrap(lambda draws: (draws @ (sums[2] - sums[1])) / np.maximum(draws @ sums[0], 1e-12), count)
    others = {"time_shuffled": 1 - float(sums[2].sum() / sums[0].sum())}
    action = next(f.name for f in batch.contract.features if f.role == "action")
    return QualityReport(
        "predictiveness", value, ci, count, len(owner), f"{len(np.unique(part))} folds of episodes", others,
        verdict(gain is not None and gain[0] > 0), f"recorded actions ({action})", goal,
        {"mse_without": float(alone.mean()), "mse_with": float(with_line.mean()), "gain_over_shuffled_ci95": gain},
    )  # fmt: skip


def _errors(x: F64, y: F64, part: I64) -> F64:
    """Squared error per row of ridge regression on standardised numbers, each fold predicted from the others."""
    errors = np.zeros(len(x))
    for fold in np.unique(part):
        train, test = part != fold, part == fold
        inputs, outputs = ((v - v[train].mean(0)) / np.where(v[train].std(0) > 1e-9, v[train].std(0), 1.0) for v in (x, y))
        known = inputs[train]
        weights = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T @ outputs[train])
        errors[test] = ((inputs[test] @ weights - outputs[test]) ** 2).mean(1)
    return errors


def _pixels(metric: str, gaps: list[F64], lazy: list[F64], limit: float, goal: str, source: str) -> QualityReport:
    medians = np.array([np.median(g) for g in gaps])
    every = np.concatenate(gaps)
    value = float(np.median(every))
    ci = bootstrap(lambda draws: (draws @ medians) / np.maximum(draws.sum(1), 1), len(gaps))
    base = float(np.median(np.concatenate(lazy)))
    detail = {
        "p90": float(np.percentile(every, 90)),
        "max": float(every.max()),
        "interval_is_of": "the mean of the episodes' medians",
    }
    return QualityReport(
        metric, value, ci, len(gaps), len(every), "all", {"mean_pixel": base}, verdict(value < limit), source, goal, detail
    )


def _gap(found: F64, scene: Scene) -> F64:
    """Distances at 256 pixels where both are known."""
    assert scene.truth is not None
    gap = np.hypot(*(found - scene.truth)) * scene.scale
    return np.asarray(gap[np.isfinite(gap)], np.float64)


def _stretches(scene: Scene, seconds: float = 2.0) -> list[slice]:
    """Cut an episode into stretches of two seconds in which the tip moves at least a centimetre."""
    edges = np.searchsorted(scene.seconds, np.arange(0, scene.seconds[-1] + 1e-9, seconds))
    cuts = [slice(int(a), int(b) + 1) for a, b in pairwise(edges.tolist())]
    return [c for c in cuts if float(np.linalg.norm(np.ptp(scene.tip[:, c], axis=1))) > 0.01]


def _line_gap(line: Line, path: F64, scene: Scene) -> float:
    size = np.array([scene.view.camera.width, scene.view.camera.height], np.float64)
    points = line.points.astype(np.float64) / 255 * size
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    where = np.linspace(0, along[-1], 32)
    drawn = np.stack([np.interp(where, along, column) for column in points.T], axis=1)
    every = max(1, len(path) // 64)
    return dynamic_time_warping(drawn, path[::every]) * scene.scale


def _spline_gap(places: I64, clock: F64, track: F64) -> float:
    error = np.linalg.norm(through(clock[places], track[places], clock) - track, axis=1)
    return float((error**2).mean())
