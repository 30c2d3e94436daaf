"""The gates that ask the model itself: it imagines next pictures from latents, its own, other people's and shuffled ones.

Order matters. A model that copies the first picture passes the cycle perfectly, so nothing is said about a cycle unless changed pixels
are explained. None of these certifies that a latent holds actions: `annotators.latent.gates.actions` alone does.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from annotators.evaluation import QualityReport, known, not_measurable, ratio, verdict
from annotators.latent.gates.evidence import permutation
from transforms.grid import I64

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
CHANGED = 0.08  # of full scale: a pixel that differs by more has changed
CUT_GOAL, CYCLE_GOAL, SHUFFLE_GOAL = 1.5, 1.5, 1.2
GAIN = "explains changed pixels better than copying, the interval above 0"


class Dreamer(Protocol):
    """What can be asked of a latent action model. Pictures are float32[n, H, W, 3] in 0..1, latents float32[n, d]."""

    def infer(self, first: F32, second: F32) -> F32:
        """Return the latents of pairs."""
        ...

    def imagine(self, first: F32, latent: F32) -> F32:
        """Return the second pictures that latents lead to."""
        ...


@dataclass(frozen=True)
class Scenes:
    """Pairs of pictures: float32[n, H, W, 3] in 0..1, and int64[n], the place of each pair's episode among `episodes`."""

    first: F32
    second: F32
    episode: I64
    episodes: int

    def others(self) -> I64:
        """Return for each pair another one, of another episode unless one episode has more than half of the pairs."""
        count = len(self.first)
        order = np.lexsort((permutation(count, 2), self.episode))
        found = np.empty(count, np.int64)
        found[order] = np.roll(order, int(np.bincount(self.episode).max()))
        return found


def judge_dreams(model: Dreamer, scenes: Scenes) -> tuple[QualityReport, ...]:
    """Run the four gates of imagination: gain on changed pixels, scene cut, cycle over another scene, shuffled latents."""
    metrics = ("gain_on_changed", "scene_cut_ratio", "shuffle_ratio", "cycle_ratio", "cycle_latent_error")
    if len(scenes.first) < 16:
        return tuple(not_measurable(m, f"{len(scenes.first)} pairs of pictures are too few", GAIN) for m in metrics)
    other = scenes.others()
    latent = model.infer(scenes.first, scenes.second)
    imagined = model.imagine(scenes.first, latent)
    own = _error(imagined, scenes.second)
    strange = model.imagine(scenes.first, latent[other])
    gain = _gain(model, scenes, latent, imagined, strange)
    cut = model.imagine(scenes.first, model.infer(scenes.first, scenes.second[other]))
    copied = {"copy": _over(_error(scenes.first, scenes.second[other]), _error(scenes.first, scenes.second))}
    reports = (
        gain,
        _ratio_report("scene_cut_ratio", scenes, _error(cut, scenes.second[other]), own, CUT_GOAL, copied, above=True),
        _ratio_report("shuffle_ratio", scenes, _error(strange, scenes.second), own, SHUFFLE_GOAL, {"ignored": 1.0}, above=True),
    )
    if gain.gate != "pass":
        why = "the model explains no changed pixels: a copy passes every cycle"
        return (*reports, not_measurable("cycle_ratio", why), not_measurable("cycle_latent_error", why))
    return (*reports, *_cycle(model, scenes, latent, own, other))


def changed_gain(imagined: F32, first: F32, second: F32) -> tuple[F64, F64]:
    """Return per pair the error on changed pixels of what was imagined, and of copying the first picture: float64[n] each."""
    mask = np.abs(second - first).max(-1, keepdims=True) > CHANGED
    own, copy = (np.where(mask, np.abs(p - second), 0.0).sum((1, 2, 3), dtype=np.float64) for p in (imagined, first))
    return own, copy


def _gain(model: Dreamer, scenes: Scenes, latent: F32, imagined: F32, strange: F32) -> QualityReport:
    own, copy = changed_gain(imagined, scenes.first, scenes.second)
    wrong, _ = changed_gain(strange, scenes.first, scenes.second)
    mean = model.imagine(scenes.first, np.broadcast_to(latent.mean(0), latent.shape).copy())
    value, ci95 = ratio(_by_episode(copy - own, scenes), _by_episode(copy, scenes))
    baselines = {"copy": 0.0, "shuffled": 1 - _over(wrong, copy), "mean_latent": 1 - _over(changed_gain(mean, scenes.first, scenes.second)[0], copy)}  # fmt: skip
    ok = ci95 is not None and ci95[0] > max(0.0, baselines["mean_latent"])
    detail = {"error_all_pixels": float(_error(imagined, scenes.second).mean()), "copy_all_pixels": float(_error(scenes.first, scenes.second).mean())}  # fmt: skip
    return QualityReport(
        "gain_on_changed", known(value), ci95, scenes.episodes, len(own), "all", baselines, verdict(ok), "the pictures themselves",
        GAIN, detail,
    )  # fmt: skip


def _cycle(model: Dreamer, scenes: Scenes, latent: F32, own: F64, other: I64) -> tuple[QualityReport, QualityReport]:
    """Infer on A, act on B, infer there, act on A again: how much worse is the picture, and how far off the latent?"""
    there = model.imagine(scenes.first[other], latent)
    again = model.infer(scenes.first[other], there)
    back = _error(model.imagine(scenes.first, again), scenes.second)
    wrong = _error(model.imagine(scenes.first, again[other]), scenes.second)
    picture = _ratio_report("cycle_ratio", scenes, back, own, CYCLE_GOAL, {"shuffled": _over(wrong, own)}, above=False)
    centred = np.linalg.norm(latent - latent.mean(0), axis=1).astype(np.float64)
    off, off_twin = (np.linalg.norm(a - latent, axis=1).astype(np.float64) for a in (again, again[other]))
    twin = {"shuffled": _over(off_twin, centred), "mean_latent": 1.0}
    return picture, _ratio_report("cycle_latent_error", scenes, off, centred, 1.0, twin, above=False)


def _ratio_report(
    metric: str, scenes: Scenes, top: F64, bottom: F64, goal: float, baselines: dict[str, float], *, above: bool
) -> QualityReport:
    value, ci95 = ratio(_by_episode(top, scenes), _by_episode(bottom, scenes))
    ok = ci95 is not None and (ci95[0] > goal if above else ci95[1] < goal)
    words = f"{'above' if above else 'below'} {goal}, the whole interval"
    return QualityReport(
        metric, known(value), ci95, scenes.episodes, len(top), "all", baselines, verdict(ok), "the pictures themselves", words
    )


def _error(one: F32, other: F32) -> F64:
    return np.abs(one - other).mean((1, 2, 3), dtype=np.float64)


def _by_episode(values: F64, scenes: Scenes) -> F64:
    return np.bincount(scenes.episode, values, scenes.episodes).astype(np.float64)


def _over(top: F64, bottom: F64) -> float:
    return float(top.sum() / bottom.sum()) if bottom.sum() > 0 else float("nan")
