"""Is predicted gaze better than knowing where people usually look? On recorded fixations of the test half, against every prior.

Priors that are fitted (the middle, the mean map, the weights of their sum, the threshold of F1) are fitted on the other half. The last
fixation is a prior that is told where the wearer really looked before; a predictor is not. A model that only knows which things people look
at, not when, is no better than its own maps of other times, which are a baseline too. Pseudo-gaze is neither truth nor judged here.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.gaze.labels import Labelled, label
from annotators.gaze.priors import NAMES, added, around, fit_centre, fit_weights, mean_map, parts_of
from annotators.gaze.recorded import RECORDED
from transforms.gaze.glc import SIDE, glc_compat
from transforms.gaze.maps import F32, heat, peak_point
from transforms.gaze.metrics import angular_error, auc_judd, f1_at, kl_divergence, nss, shuffled_auc, tune_threshold
from transforms.grid import BOOL, I64
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.gaze.predicted import PredictedGaze
    from annotators.gaze.predictors import Predictor

SAUC, NSS, JUDD, KL, ANGLE, F1 = "gaze_sauc", "gaze_nss", "gaze_auc_judd", "gaze_kl", "gaze_error", "gaze_f1"
METRICS = (SAUC, NSS, JUDD, KL, ANGLE, F1)
LABEL = 0.03  # spread of a label's map, share of the width
NEAR = 0.05  # cells this close to a fixation are what F1 looks for


@dataclass(frozen=True, slots=True)
class Judged:
    """Labels, and what everybody says of them: maps float32[N, H, W] by name; the predictor's is called `model`."""

    labelled: Labelled
    maps: dict[str, F32]


def evaluate_predicted(annotator: "PredictedGaze", heldout: Batch) -> tuple[QualityReport, ...]:
    """Measure everything, or say why nothing can be."""
    predictor = annotator.predictor()
    halves = _halves(annotator, predictor, heldout)
    if isinstance(halves, str):
        return tuple(not_measurable(m, halves) for m in METRICS)
    val, test = halves
    reports = [_higher(SAUC, test, _sauc), _higher(NSS, test, nss), _higher(JUDD, test, auc_judd)]
    return *reports, _divergence(test), _error(test), _f1(val, test)


def _halves(annotator: "PredictedGaze", predictor: "Predictor", heldout: Batch) -> tuple[Judged, Judged] | str:
    camera = annotator.camera(heldout.contract)
    if camera is None:
        return "no_colour_camera"
    if predictor.labels != RECORDED:
        return f"the weights learnt {predictor.labels}, which is never compared with recorded gaze"
    found: list[Labelled] = []
    for part in ("val", "test"):
        sees = predictor.sees
        labelled = label(heldout.part(part), camera, sees.frames, sees.hz, sees.side, annotator.gaze(camera))
        if isinstance(labelled, str):
            return f"{labelled} ({part} half)"
        found.append(labelled)
    val, test = found
    if len(set(test.owner.tolist())) < 2:
        return "fewer than two recordings with fixations in the test half: nothing to take negatives from"
    made = [predictor.maps(part, heldout.at_once, heldout.device) for part in (val, test)]
    size = (made[0].shape[1], made[0].shape[2])
    centre = fit_centre(val.xy)
    weights = fit_weights(parts_of(val, size, centre), val.xy)
    late = {"model_other_time": made[1][_later(test)]}  # what the model says of pictures from another time of the same recording
    return Judged(val, {"model": made[0]}), Judged(test, {"model": made[1]} | late | _priors(val, test, size, weights))


def _priors(val: Labelled, test: Labelled, size: tuple[int, int], weights: F64) -> dict[str, F32]:
    """Return the mandatory baselines for the test half."""
    count, centre = len(test), fit_centre(val.xy)
    middle = centre.map(size)
    named = {
        "centre": np.broadcast_to(middle, (count, *size)),
        "mean_map": np.broadcast_to(mean_map(val.xy, size), (count, *size)),
        "last_fixation": around(test.before, size, middle),
        "other_time": heat(test.xy[_later(test)], size, LABEL),
        "priors_together": added(parts_of(test, size, centre), weights),
    }
    if np.isfinite(test.hand).any():
        named["hand"] = around(test.hand, size, middle)
    return named


def _later(labelled: Labelled) -> I64:
    """Return, for each label, one from another time of the same recording, int64[N]: half of its labels later."""
    found = np.arange(len(labelled))
    for e in set(labelled.owner.tolist()):
        mine = np.flatnonzero(labelled.owner == e)
        found[mine] = np.roll(mine, len(mine) // 2)
    return found


def _sauc(maps: F32, labelled: Labelled) -> F64:
    return shuffled_auc(maps, labelled.xy, labelled.xy, labelled.owner, labelled.owner)


def _higher(metric: str, judged: Judged, measure: Callable[..., F64]) -> QualityReport:
    """Report a measure of which more is better; the two that decide are sAUC and NSS."""
    labelled = judged.labelled
    values = {n: measure(m, labelled if measure is _sauc else labelled.xy) for n, m in judged.maps.items()}
    return _report(metric, values, labelled, lower=False)


def _divergence(judged: Judged) -> QualityReport:
    size = judged.maps["model"].shape[1:]
    truth = heat(judged.labelled.xy, (size[0], size[1]), LABEL)
    return _report(KL, {n: kl_divergence(truth, m) for n, m in judged.maps.items()}, judged.labelled, lower=True)


def _error(judged: Judged) -> QualityReport:
    """Report how far the highest cell is off: degrees where the lens is stated, else shares of the picture's diagonal."""
    labelled, camera = judged.labelled, judged.labelled.camera
    points = {n: peak_point(m) for n, m in judged.maps.items()}
    if camera.intrinsics is not None and camera.width and camera.height:
        errors, unit = {n: angular_error(camera, p, labelled.xy) for n, p in points.items()}, "degrees"
    else:
        shape = np.array([camera.width or 1, camera.height or 1], np.float64)
        errors = {n: np.linalg.norm((p - labelled.xy) * shape, axis=1) / np.linalg.norm(shape) for n, p in points.items()}
        unit = "share of the diagonal"
    return _report(ANGLE, errors, labelled, lower=True, detail={"unit": unit})


def _f1(val: Judged, test: Judged) -> QualityReport:
    """Report F1 with the threshold tuned on the other half; GLC's own number, which tunes on the test half, only beside it."""
    threshold = tune_threshold(val.maps["model"], _near(val))
    truth, labelled = _near(test), test.labelled
    score = {n: f1_at(m, truth, threshold if n == "model" else _best(m, truth))[0] for n, m in test.maps.items()}
    value = score.pop("model")
    glc = glc_compat(_resized(test.maps["model"]), labelled.xy)
    return QualityReport(
        F1, value, None, len(set(labelled.owner.tolist())), len(labelled), "test", score, verdict(value > max(score.values())),
        "recorded fixations", "above every prior, though theirs are tuned on the test half", {"threshold": threshold, "glc_compat": asdict(glc)},
    )  # fmt: skip


def _best(maps: F32, truth: BOOL) -> float:
    return tune_threshold(maps, truth, 19)


def _near(judged: Judged) -> BOOL:
    height, width = judged.maps["model"].shape[1:]
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    away = np.hypot(columns[None, None] - judged.labelled.xy[:, :1, None], rows[None, :, None] - judged.labelled.xy[:, 1:, None])
    return np.asarray(away <= np.maximum(NEAR, away.min((1, 2), keepdims=True)), np.bool_)


def _resized(maps: F32) -> F32:
    import cv2

    return np.stack([np.asarray(cv2.resize(m, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.float32) for m in maps])


def _report(
    metric: str, values: dict[str, F64], labelled: Labelled, *, lower: bool, detail: dict[str, Any] | None = None
) -> QualityReport:
    episodes = len(labelled.episodes)
    known = np.logical_and.reduce([np.isfinite(v) for v in values.values()])
    count = np.bincount(labelled.owner[known], minlength=episodes).astype(np.float64)

    def mean(name: str) -> tuple[float, tuple[float, float] | None]:
        return ratio(np.bincount(labelled.owner[known], values[name][known], episodes).astype(np.float64), count)

    value, interval = mean("model")
    others = {name: mean(name)[0] for name in values if name != "model"}
    better = value < min(others.values()) if lower else value > max(others.values())
    goal = "below every prior" if lower else "above every prior"
    more = {"priors": ", ".join(NAMES)} if metric == SAUC else {}
    return QualityReport(
        metric, value, interval, int((count > 0).sum()), int(known.sum()), "test", others, verdict(bool(better)), "recorded fixations",
        goal, (detail or {}) | more,
    )  # fmt: skip
