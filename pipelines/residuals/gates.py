"""Is a cache of any use? What must hold before anybody trains on it, measured against the data and against controls that must fail.

A good fit of the residual is no evidence: a residual of shuffled futures is fitted better than a true one and ruins the policy. So
every gate is about errors against the true velocity, on episodes that were not learned from, with intervals over episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.evaluation import QualityReport, bootstrap, folds, not_measurable, ratio, verdict
from pipelines.residuals.adapter import Adapter, AdapterConfig, gather, train_adapter
from pipelines.residuals.compute import ask, prepare
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.drawing import draw
from pipelines.residuals.reading import Part
from pipelines.residuals.store import Cache
from pipelines.residuals.teacher import Teacher

F64 = npt.NDArray[np.float64]
TRUTH = "the recorded action chunk and the drawn noise"


@dataclass(frozen=True, slots=True)
class Leak:
    """How far answers move when nothing but the privileged inputs changes: largest absolute change."""

    student: float
    teacher: float

    @property
    def sound(self) -> bool:
        """Whether the student does not move at all and the teacher does."""
        return self.student == 0.0 and self.teacher > 0.0


def measure_leak(teacher: Teacher, config: CacheConfig, part: Part) -> Leak:
    """Replace the privileged inputs by noise of their own spread and compare the answers, bit by bit."""
    import torch

    with torch.no_grad():
        ready = prepare(teacher, config, part)
        draws = draw(teacher.spec, config, part.ref.dataset, part.ref.episode_id, part.frames)
        before = ask(teacher, config, ready, draws)
        generator = torch.Generator().manual_seed(config.seed)
        other = dict(ready)
        for name in teacher.spec.privileged:
            now = ready[name]
            noise = torch.randn(now.shape, generator=generator).to(now)
            other[name] = (noise * now.float().std() + now.float().mean()).to(now.dtype)
        after = ask(teacher, config, other, draws)
    assert before.teacher is not None
    assert after.teacher is not None
    moved = 0.0 if before.base is None or after.base is None else float(np.abs(after.base - before.base).max())
    return Leak(moved, float(np.abs(after.teacher - before.teacher).max()))


def held_out(cache: Cache, share: float = 0.2) -> tuple[list[int], list[int]]:
    """Split the cache's episodes by the hash of their ids into those to learn from and those to judge by."""
    parts = max(2, round(1 / share))
    fold = folds([e.episode_id for _, e in cache.segments], parts)
    return np.flatnonzero(fold != 0).tolist(), np.flatnonzero(fold == 0).tolist()


def teacher_gate(cache: Cache, segments: Sequence[int] | None = None) -> QualityReport:
    """Does the teacher come nearer to the truth than the student? Mean of their squared errors' difference; above 0 or useless."""
    chosen = list(range(len(cache.segments))) if segments is None else list(segments)
    metric, goal = "student_error_minus_teacher_error", "> 0 with its interval"
    sums, counts, base = (np.zeros(len(chosen)) for _ in range(3))
    for place, s in enumerate(chosen):
        rows = cache.take(np.arange(cache.offsets[s], cache.offsets[s + 1]), ["gt_err_base", "gt_err_teacher"])
        gain = rows["gt_err_base"].astype(np.float64) - rows["gt_err_teacher"]
        fine = np.isfinite(gain)
        sums[place], counts[place], base[place] = gain[fine].sum(), fine.sum(), rows["gt_err_base"][fine].sum()
    if not counts.sum():
        return not_measurable(metric, "no row has both a student's and a teacher's error", goal)
    value, interval = ratio(sums, counts)
    ok = value > 0 and (interval is None or interval[0] > 0)
    return QualityReport(
        metric, value, interval, len(chosen), int(counts.sum()), "held-out episodes" if segments is not None else "all",
        {"student": float(base.sum() / counts.sum())}, verdict(ok), TRUTH, goal,
    )  # fmt: skip


def utility_gate(
    cache: Cache, shuffled: Cache | None, config: AdapterConfig | None = None, held: tuple[list[int], list[int]] | None = None
) -> QualityReport:
    """Is the student better with an adapter from this cache than without, than with one from the truth alone, and than by chance?

    Args:
        cache: the cache to judge.
        shuffled: the same rows with other frames' futures; without it the verdict is `not-measurable`.
        config: of every adapter; all train for equally many steps.
        held: segments to learn from and to judge by; None: a fifth is held out by hash.

    Returns:
        Mean squared error of the corrected velocity on held-out episodes. It passes where it is below the student's and below
        that of an adapter from the truth alone, each with its interval over episodes, and the shuffled cache's is above it.
    """
    config = config or AdapterConfig()
    learn, judge = held or held_out(cache)
    errors = {"pfd": episode_errors(train_adapter(cache, config, learn), cache, judge)}
    errors["ground_truth_only"] = episode_errors(
        train_adapter(cache, replace(config, weights=(1.0, 0.0, 0.0)), learn), cache, judge
    )
    errors["random_target"] = episode_errors(train_adapter(cache, replace(config, random_residual=True), learn), cache, judge)
    errors["base"] = episode_errors(None, cache, judge)
    if shuffled is not None:
        same = [shuffled.episodes[cache.segments[s][1].episode_id] for s in learn]
        errors["shuffled_future"] = episode_errors(train_adapter(shuffled, config, same), cache, judge)
    return _report(errors, shuffled is not None)


def episode_errors(adapter: Adapter | None, cache: Cache, segments: Sequence[int]) -> tuple[F64, F64]:
    """Return per episode the sum of squared errors of the (corrected) velocity, and the number of its real scalars."""
    import torch

    sums, counts = np.zeros(len(segments)), np.zeros(len(segments))
    config = adapter.config if adapter is not None else AdapterConfig()
    with torch.no_grad():
        for place, s in enumerate(segments):
            rows = gather(cache, [s], config)
            final = rows.v_base if adapter is None else rows.v_base + adapter(rows)
            sums[place] = float((((final - rows.wanted) ** 2) * rows.real).sum())
            counts[place] = float(rows.real.sum() * final.shape[-1])
    return sums, counts


def _report(errors: Mapping[str, tuple[F64, F64]], complete: bool) -> QualityReport:
    values = {name: float(sums.sum() / counts.sum()) for name, (sums, counts) in errors.items()}
    _, counts = errors["pfd"]

    def better_than(name: str) -> tuple[float, float] | None:
        gain = errors[name][0] - errors["pfd"][0]
        return bootstrap(lambda draws: (draws @ gain) / (draws @ counts), len(gain))

    gains = {name: better_than(name) for name in errors if name != "pfd"}
    beats = [values[n] > values["pfd"] and (g := gains[n]) is not None and g[0] > 0 for n in ("base", "ground_truth_only")]
    worse = complete and values["shuffled_future"] > values["pfd"]
    _, interval = ratio(*errors["pfd"])
    detail: dict[str, Any] = {f"gain_over_{name}_ci95": interval_ for name, interval_ in gains.items()}
    return QualityReport(
        "corrected_velocity_mse", values["pfd"], interval, len(counts), int(counts.sum()), "held-out episodes",
        {n: v for n, v in values.items() if n != "pfd"}, verdict(all(beats) and worse) if complete else "not-measurable", TRUTH,
        "below base and below ground_truth_only with their intervals, and shuffled_future above it", detail,
    )  # fmt: skip
