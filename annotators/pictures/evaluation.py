"""How well `picture_quality` finds what is wrong with pictures: they are blurred and frozen on purpose, and it must tell which."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.clips import Clip
from annotators.evaluation import QualityReport, area_under_roc, known, not_measurable, ratio, verdict
from annotators.pictures.measures import Measured

F64 = npt.NDArray[np.float64]
BLUR_PX = 1.5  # standard deviation
SAMPLED = 48  # pictures per clip
MIN_PICTURES = 8
MIN_CONTRAST = 2.0  # median standard deviation of levels
GOAL = "at least 0.9, and above every baseline"


type Measure = Callable[[Clip], Measured]


def evaluate_pictures(measure: Measure, heldout: Batch, cameras: Sequence[str]) -> tuple[QualityReport, ...]:
    """Report the mean area under the ROC per episode of finding blurred and frozen pictures.

    Clips of fewer than `MIN_PICTURES` pictures, and those that show one colour (a covered camera), are left out and counted: blurred or frozen,
    they would stay what they are.
    """
    shown = [c for c in heldout.clips if c in cameras]
    every = [[_sampled(heldout.clips[c][e]) for c in shown if len(heldout.clips[c][e])] for e in range(len(heldout.episodes))]
    clips = [[clip for clip in have if len(clip) >= MIN_PICTURES and _has_contrast(clip)] for have in every]
    left_out = sum(map(len, every)) - sum(map(len, clips))
    clips = [have for have in clips if have]
    if not clips:
        why = "no episode has enough pictures with anything to see"
        return not_measurable("blur_auc", why, GOAL), not_measurable("freeze_auc", why, GOAL)
    cases: tuple[tuple[str, _Case], ...] = (("blur_auc", _blurred), ("freeze_auc", _frozen))
    return tuple(replace(_report(measure, m, clips, case), detail={"clips_left_out": left_out}) for m, case in cases)


def _has_contrast(clip: Clip) -> bool:
    return float(np.median(clip.pictures.std(axis=(1, 2, 3)))) >= MIN_CONTRAST


type _Case = Callable[[Measure, Clip], tuple[dict[str, F64], npt.NDArray[np.bool_]]]


def _report(measure: Measure, metric: str, clips: list[list[Clip]], case: _Case) -> QualityReport:
    found: dict[str, list[float]] = {}
    for have in clips:
        areas: dict[str, list[float]] = {}
        for clip in have:
            scores, label = case(measure, clip)
            for name, score in scores.items():
                usable = np.isfinite(score)
                areas.setdefault(name, []).append(area_under_roc(score[usable], label[usable]))
        for name, values in areas.items():
            found.setdefault(name, []).append(float(np.mean(values)))
    own = np.array(found.pop("own"))
    value, ci95 = ratio(own, np.ones(len(own)))
    baselines = {name: float(np.mean(values)) for name, values in found.items()} | {"chance": 0.5}
    rows = sum(len(clip) for have in clips for clip in have)
    ok = value >= 0.9 and value > max(baselines.values())
    kind = "blurred" if metric == "blur_auc" else "frozen"
    return QualityReport(
        metric,
        known(value),
        ci95,
        len(clips),
        rows,
        "all",
        baselines,
        verdict(ok),
        f"pictures of this data, {kind} on purpose",
        GOAL,
    )


def _blurred(measure: Measure, clip: Clip) -> tuple[dict[str, F64], npt.NDArray[np.bool_]]:
    """Score blurred pictures against the same ones faded until they have no more contrast than those: fog is not blur."""
    import cv2

    soft = np.stack([cv2.GaussianBlur(p, (0, 0), BLUR_PX) for p in clip.pictures])
    mean, spread = (f(clip.pictures, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.std))
    fade = soft.std(axis=(1, 2, 3), keepdims=True) / np.maximum(spread, 1e-6)
    faded = np.rint(mean + (clip.pictures - mean) * fade).clip(0, 255).astype(np.uint8)
    both = [(c, measure(c)) for c in (replace(clip, pictures=faded), replace(clip, pictures=soft))]
    own = np.concatenate([-m.sharpness for _, m in both]).astype(np.float64)
    contrast = -np.concatenate([c.pictures.std(axis=(1, 2, 3)) for c, _ in both])
    light = np.concatenate([m.luminance for _, m in both]).astype(np.float64)
    label = np.repeat([False, True], len(clip))
    return {"own": own, "contrast": contrast, "luminance": light}, label


def _frozen(measure: Measure, clip: Clip) -> tuple[dict[str, F64], npt.NDArray[np.bool_]]:
    """Score a clip whose second half repeats one picture. A still scene scores like a frozen one, which is what the value tells."""
    middle = len(clip) // 2
    pictures = clip.pictures.copy()
    pictures[middle:] = pictures[middle]
    found = measure(replace(clip, pictures=pictures))
    label = np.arange(len(clip)) > middle
    return {"own": found.frozen_s.astype(np.float64), "sharpness": -found.sharpness.astype(np.float64)}, label


def _sampled(clip: Clip) -> Clip:
    """Return at most `SAMPLED` neighbouring pictures out of a clip's middle."""
    first = max((len(clip) - SAMPLED) // 2, 0)
    inside = slice(first, first + SAMPLED)
    return replace(clip, pictures=clip.pictures[inside], t_ns=clip.t_ns[inside], step=clip.step[inside])
