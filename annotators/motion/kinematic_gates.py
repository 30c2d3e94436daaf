"""Do language motions say what really moved? Dominant axis, sign, every axis at every rate, and the same motion backwards.

The truth comes from raw positions by another formula: plain interpolation, no grid, no filter.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.evaluation import QualityReport, known, not_measurable, ratio, verdict
from annotators.motion.labellers import RATES, Baselines, Labeller, labels_of, per_episode, share_of, shared_instants
from annotators.motion.labels import StepLabels
from annotators.motion.probe import displacements, is_absolute, reference, resampled, true_rates
from annotators.motion.read import read_slots
from annotators.motion.source import MotionSource
from transforms.grid import BOOL
from transforms.motion import RateRule
from transforms.rotation import F64

KINEMATIC = ("kinematic_agreement", "sign_agreement", "axis_f1", "reversal")
AGREEMENT_GOAL, SIGN_GOAL, F1_GOAL, REVERSAL_GOAL = 0.90, 0.99, 0.85, 0.90
_OWN_AXES = "told in the end effector's own axes"


def kinematic_gates(
    label: Labeller, batch: Batch, source: MotionSource, turn: F64 | None, rule: RateRule, baselines: Baselines
) -> tuple[QualityReport, ...]:
    """Return the four reports; `turn` takes the contract's frame to the words', None where words follow the hand."""
    return (
        kinematic_agreement(label, batch, source, turn, rule.window_s, baselines),
        sign_agreement(label, batch, source, turn, rule.window_s, baselines),
        axis_f1(label, batch, source, turn, rule, baselines),
        reversal(label, batch, source, rule.window_s, baselines),
    )


def kinematic_agreement(
    label: Labeller, batch: Batch, source: MotionSource, turn: F64 | None, window_s: float, baselines: Baselines
) -> QualityReport:
    """Share of moving steps whose dominant axis of displacement is on, with the right sign.

    The displacement comes from raw positions by another formula: plain interpolation, no grid, no filter, no share rule.
    """
    goal = f"at least {AGREEMENT_GOAL}"
    found = reference(batch, source)
    if isinstance(found, str) or turn is None:
        return not_measurable("kinematic_agreement", found if isinstance(found, str) else _OWN_AXES, goal)
    positions, rows, told_by = found
    speed = displacements(batch, positions, window_s) / window_s
    if source.arms:
        speed = np.concatenate([turn @ speed[i : i + 3] for i in range(0, len(speed), 3)])

    labels = labels_of(label, batch)
    scaled = np.nan_to_num(np.abs(speed) / labels.on[list(rows), None])
    best, here = np.argmax(scaled, 0), np.arange(speed.shape[1])
    moves = (scaled.max(0) > 1) & np.isfinite(speed).all(0)

    def measure(told: StepLabels) -> tuple[BOOL, BOOL]:
        moving = moves & (told.reason == 0)
        return moving, moving & (told.code[list(rows)][best, here] == np.sign(speed[best, here]))

    moving, right = measure(labels)
    value, ci = ratio(per_episode(batch, right), per_episode(batch, moving))
    others = _others(baselines, lambda how: share_of(*measure(labels_of(how, batch))))
    steps = int(moving.sum())
    gate = verdict(value >= AGREEMENT_GOAL) if steps else "not-measurable"
    return QualityReport(
        "kinematic_agreement", value if steps else None, ci, len(batch.episodes), steps, "all", others, gate, told_by, goal,
    )  # fmt: skip


def sign_agreement(
    label: Labeller, batch: Batch, source: MotionSource, turn: F64 | None, window_s: float, baselines: Baselines
) -> QualityReport:
    """Share of steps with a translation in their code along which the hand really moved: P(<displacement, code> > 0)."""
    goal = f"at least {SIGN_GOAL}"
    if not source.arms or turn is None or any(a.position.representation != "absolute" for a in source.arms):
        return not_measurable("sign_agreement", _OWN_AXES if turn is None else "no end effector told in positions", goal)
    found = reference(batch, source)
    if isinstance(found, str):
        positions, told_by = _own_positions(batch, source), "the raw positions the labels are made from"
    else:
        positions, told_by = found[0], found[2]
    moved = displacements(batch, positions, window_s)
    moved = np.concatenate([turn @ moved[i : i + 3] for i in range(0, len(moved), 3)])
    rows = [7 * i + j for i in range(len(source.arms)) for j in range(3)]

    def measure(told: StepLabels) -> tuple[BOOL, BOOL]:
        code = told.code[rows]
        says = (told.reason == 0) & (code != 0).any(0) & np.isfinite(moved).all(0)
        return says, says & ((code * np.nan_to_num(moved)).sum(0) > 0)

    says, right = measure(labels_of(label, batch))
    value, ci = ratio(per_episode(batch, right), per_episode(batch, says))
    others = _others(baselines, lambda how: share_of(*measure(labels_of(how, batch))))
    steps = int(says.sum())
    return QualityReport(
        "sign_agreement", value if steps else None, ci, len(batch.episodes), steps, "all", others,
        verdict(value >= SIGN_GOAL) if steps else "not-measurable", told_by, goal,
    )  # fmt: skip


def axis_f1(
    label: Labeller, batch: Batch, source: MotionSource, turn: F64 | None, rule: RateRule, baselines: Baselines
) -> QualityReport:
    """Least over 5, 10, 20, 30 and 50 Hz of the mean F1 of axes being on with the right sign, against simulator kinematics.

    Truth: raw speed over the window above the threshold and above its share of its group, at the instants all rates share.
    """
    goal = f"at least {F1_GOAL} at every rate"
    if batch.contract.kind != "sim" or not source.arms or not is_absolute(source) or turn is None:
        why = _OWN_AXES if turn is None else "only a simulator knows the true kinematics, and only positions can be resampled"
        return not_measurable("axis_f1", why, goal)
    views = {hz: resampled(batch, source, hz) for hz in RATES}
    truth = true_rates(batch, source, turn, rule.window_s, RATES[0])

    def measure(how: Labeller) -> tuple[dict[int, dict[str, float]], int]:
        each: dict[int, dict[str, float]] = {}
        steps = 0
        for hz, view in views.items():
            told, at = labels_of(how, view), np.concatenate(shared_instants(view, hz))
            each[hz], steps = _axis_scores(told, at, truth, rule.share)
        return each, steps

    def least(each: dict[int, dict[str, float]]) -> float:
        return min(float(np.mean(list(scores.values()))) if scores else 0.0 for scores in each.values())

    each, steps = measure(label)
    others = _others(baselines, lambda how: least(measure(how)[0]))
    value, detail = least(each), {f"{hz}Hz": scores for hz, scores in each.items()}
    return QualityReport(
        "axis_f1", value if steps else None, None, len(batch.episodes), steps, "all", others,
        verdict(value >= F1_GOAL) if steps else "not-measurable", "simulator state", goal, detail,
    )  # fmt: skip


def reversal(label: Labeller, batch: Batch, source: MotionSource, window_s: float, baselines: Baselines) -> QualityReport:
    """Share of instants at which the motion played backwards gets the opposite code, axis by axis."""
    goal = f"at least {REVERSAL_GOAL}"
    if not is_absolute(source):
        return not_measurable("reversal", "commands cannot be played backwards", goal)
    per_window = 6
    view = resampled(batch, source, per_window / window_s)
    mirrored = _backwards(view, source)
    here = [np.arange(a, b - per_window) for a, b in zip(view.starts[:-1], view.starts[1:], strict=True)]
    there = [a + b - 1 - per_window - i for i, a, b in zip(here, view.starts[:-1], view.starts[1:], strict=True)]
    at, back = np.concatenate(here), np.concatenate(there)
    episode = np.repeat(np.arange(len(here)), [len(i) for i in here])

    def measure(how: Labeller) -> tuple[F64, F64]:
        now, then = labels_of(how, view), labels_of(how, mirrored)
        both = (now.reason[at] == 0) & (then.reason[back] == 0)
        same = (now.code[:, at] == -then.code[:, back]).all(0) & both
        count = len(batch.episodes)
        return np.bincount(episode, same, count).astype(np.float64), np.bincount(episode, both, count).astype(np.float64)

    hits, total = measure(label)
    value, ci = ratio(hits, total)
    others = _others(baselines, lambda how: float(np.divide(*(x.sum() for x in measure(how)))))
    steps = int(total.sum())
    return QualityReport(
        "reversal", known(value), ci, len(batch.episodes), steps, "all", others,
        verdict(value >= REVERSAL_GOAL) if steps else "not-measurable", "the same motion, played backwards", goal,
    )  # fmt: skip


def _axis_scores(told: StepLabels, at: Any, truth: dict[int, F64], share: float) -> tuple[dict[str, float], int]:
    """F1 per axis at the instants `at`; an axis that neither is nor is said to be on has none."""
    use = told.reason[at] == 0
    for rate in truth.values():
        use &= np.isfinite(rate)
    scores: dict[str, float] = {}
    for row, rate in truth.items():
        axis = told.axes[row]
        group = [np.abs(truth[r]) for r in truth if (told.axes[r].who, told.axes[r].kind) == (axis.who, axis.kind)]
        need = told.on[row] if axis.kind == "gripper" else np.maximum(told.on[row], share * np.sum(group, 0))
        true = np.where(np.abs(rate) > need, np.sign(rate), 0)[use]
        said = told.code[row, at][use]
        total = int((said != 0).sum() + (true != 0).sum())
        if total:
            scores[axis.name] = 2 * int(((said == true) & (true != 0)).sum()) / total
    return scores, int(use.sum())


def _backwards(view: Batch, source: MotionSource) -> Batch:
    """Play an evenly sampled batch backwards."""
    order = np.concatenate([np.arange(b - 1, a - 1, -1) for a, b in zip(view.starts[:-1], view.starts[1:], strict=True)])
    steps = view.steps
    for name in source.columns:
        place = steps.column_names.index(name)
        steps = steps.set_column(place, name, steps.column(name).take(pa.array(order)))
    return replace(view, steps=steps)


def _own_positions(batch: Batch, source: MotionSource) -> F64:
    values = read_slots(batch, source)[0]
    return np.concatenate([values[a.position] for a in source.arms])


def _others(baselines: Baselines, measure: Callable[[Labeller], float]) -> dict[str, float]:
    found = {name: known(measure(how)) for name, how in baselines.items() if how is not None}
    return {name: value for name, value in found.items() if value is not None}
