"""How good are segments? Against true phases where a simulator or a person recorded them, and by what needs no truth.

Every metric takes any function from a batch to cuts, so that baselines and adversarial twins go the same way as the annotator.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.motion.probe import is_absolute, resampled
from annotators.motion.source import find_source
from annotators.segments import cuts as c
from annotators.segments.config import PHASES
from annotators.segments.truth import Truth, find_truth
from transforms import segment_scores as scores
from transforms.grid import changes
from transforms.macros import compress, description_bits, expand, learn
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.segments.segments import Segments

RATES = (5, 10, 20, 30, 50)
NEAR_S, WIDE_S = 0.2, 0.5
SAME_GOAL, RATIO_GOAL = 0.90, (0.5, 2.0)
NO_TRUTH = "the data does not tell its phases (a column named phase, subtask, stage, skill or segment, or subtask flags)"
TRUTH_METRICS = ("boundary_f1_0.2s", "boundary_f1_0.5s", "frame_accuracy", "over_segmentation")


def evaluate_segments(annotator: "Segments", batch: Batch, cutter: c.Cutter | None = None) -> tuple[QualityReport, ...]:
    """Return every report of sheet 8.3 and of mechanism M5; `cutter` replaces the annotator, to put a twin in its place."""
    every = (*TRUTH_METRICS, "cover_and_order", "rate_invariance", "reversal", "compression", "skill_agreement")
    if find_source(batch.contract) is None:
        return tuple(not_measurable(n, "no_motion_source") for n in every)

    silent = replace(annotator, config=replace(annotator.config, motions=False, wording=""))  # words are not judged here

    def mine(some: Batch) -> c.Cuts:
        return c.cuts_of(silent.run(c.without_truth(some)), some)

    cut = cutter or mine
    found = cut(batch)
    return (
        *against_truth(annotator, batch, found),
        cover_and_order(batch, found),
        rate_invariance(batch, cut),
        reversal(batch, cut, found),
        compression(batch, found),
        skill_agreement(silent, batch),
    )


def against_truth(annotator: "Segments", batch: Batch, found: c.Cuts) -> tuple[QualityReport, ...]:
    """Compare with the true phases."""
    truth = find_truth(batch)
    if truth is None or not any(len(b) for b in truth.boundaries):
        return tuple(not_measurable(n, NO_TRUTH) for n in TRUTH_METRICS)
    others = {
        "uniform_same_count": c.uniform(found, batch),
        "gripper_only": c.gripper_only(batch, annotator.config),
        "random_same_count": c.at_random(found, batch),
    }
    return (
        _boundary_report(batch, found, truth, others, NEAR_S),
        _boundary_report(batch, found, truth, others, WIDE_S),
        _frame_report(batch, found, truth, others),
        _ratio_report(batch, found, truth, others),
    )


def boundary_counts(found: c.Cuts, truth: tuple[F64, ...], tolerance_s: float) -> tuple[F64, F64]:
    """Per episode: twice the matched boundaries, and all found and true ones, float64[E] each. Their ratio is F1."""
    hits = [scores.matched_boundaries(a, b, tolerance_s) for a, b in zip(found.boundaries, truth, strict=True)]
    total = [len(a) + len(b) for a, b in zip(found.boundaries, truth, strict=True)]
    return 2.0 * np.array(hits), np.array(total, np.float64)


def _boundary_report(
    batch: Batch, found: c.Cuts, truth: Truth, others: Mapping[str, c.Cuts], tolerance_s: float
) -> QualityReport:
    value, ci = ratio(*boundary_counts(found, truth.boundaries, tolerance_s))
    baselines = {n: _pooled(boundary_counts(o, truth.boundaries, tolerance_s)) for n, o in others.items()}
    gate = verdict(ci is not None and ci[0] > max(baselines.values()))
    return QualityReport(
        f"boundary_f1_{tolerance_s}s", value, ci, len(batch.episodes), batch.steps.num_rows, "all", baselines, gate,
        f"true phases ({truth.told_by})", "above every baseline, interval apart",
    )  # fmt: skip


def _frame_report(batch: Batch, found: c.Cuts, truth: Truth, others: Mapping[str, c.Cuts]) -> QualityReport:
    goal = "above every baseline, interval apart"
    if not truth.named:
        return not_measurable("frame_accuracy", f"the true phases ({truth.told_by}) have other names than the annotator's", goal)

    def right(some: c.Cuts) -> tuple[F64, F64]:
        use = some.label >= 0
        hits = ((some.label == truth.label) & use).astype(np.float64)
        return np.add.reduceat(hits, batch.starts[:-1]), np.add.reduceat(use.astype(np.float64), batch.starts[:-1])

    hits, total = right(found)
    value, ci = ratio(hits, total)
    baselines = {n: _pooled(right(o)) for n, o in others.items()}
    baselines["commonest_phase"] = float(np.bincount(truth.label).max() / len(truth.label))
    gate = verdict(ci is not None and ci[0] > max(baselines.values()))
    detail = {n: _order_scores(batch, o.label, truth.label) for n, o in {"segments": found, **others}.items()}
    return QualityReport(
        "frame_accuracy", value, ci, len(batch.episodes), int(total.sum()), "all", baselines, gate,
        f"true phases ({truth.told_by})", goal, detail,
    )  # fmt: skip


def _ratio_report(batch: Batch, found: c.Cuts, truth: Truth, others: Mapping[str, c.Cuts]) -> QualityReport:
    mine = np.array([len(b) + 1.0 for b in found.boundaries])
    true = np.array([len(b) + 1.0 for b in truth.boundaries])
    value, ci = ratio(mine, true)
    baselines = {"gripper_only": float(sum(len(b) + 1 for b in others["gripper_only"].boundaries) / true.sum())}
    gate = verdict(RATIO_GOAL[0] <= value <= RATIO_GOAL[1])
    return QualityReport(
        "over_segmentation", value, ci, len(batch.episodes), batch.steps.num_rows, "all", baselines, gate,
        f"true phases ({truth.told_by})", f"segments per true one, {RATIO_GOAL[0]} to {RATIO_GOAL[1]}",
    )  # fmt: skip


def cover_and_order(batch: Batch, found: c.Cuts) -> QualityReport:
    """Share of steps that lie in a valid segment, provided the boundaries of every episode rise and lie inside it."""
    ends = (batch.t_ns[batch.starts[1:] - 1] - batch.t_ns[batch.starts[:-1]]) * 1e-9
    sound = [_rises(b, float(end)) for b, end in zip(found.boundaries, ends, strict=True)]
    covered = np.add.reduceat((found.label >= 0).astype(np.float64), batch.starts[:-1]) * np.array(sound)
    value, ci = ratio(covered, np.diff(batch.starts).astype(np.float64))
    return QualityReport(
        "cover_and_order", value, ci, len(batch.episodes), batch.steps.num_rows, "all", {"no_segments": 0.0},
        verdict(all(sound) and value > 0), "no truth needed", "boundaries in order; what is not covered is told invalid",
    )  # fmt: skip


def rate_invariance(batch: Batch, cut: c.Cutter) -> QualityReport:
    """Least F1 (within 0.2 s) between the boundaries of one motion sampled at 20 Hz and at 5 to 50 Hz."""
    goal = f"at least {SAME_GOAL}"
    source = find_source(batch.contract)
    if source is None or not is_absolute(source):
        return not_measurable("rate_invariance", "commands belong to their rate and cannot be resampled", goal)
    views = {hz: resampled(batch, source, hz) for hz in RATES}

    def least(how: c.Cutter, rates: tuple[int, ...] = RATES) -> tuple[float, tuple[float, float] | None, dict[str, float]]:
        cuts = {hz: how(views[hz]) for hz in rates}
        counts = {hz: boundary_counts(found, cuts[20].boundaries, NEAR_S) for hz, found in cuts.items() if hz != 20}
        each = {f"{hz}Hz": _pooled(pair) for hz, pair in counts.items()}
        worst = min(counts, key=lambda hz: each[f"{hz}Hz"])
        return each[f"{worst}Hz"], ratio(*counts[worst])[1], each

    value, ci, each = least(cut)
    baselines = {"counted_in_frames_at_5Hz": least(c.in_frames(cut), (5, 20))[0]}
    return QualityReport(
        "rate_invariance", value, ci, len(batch.episodes), batch.steps.num_rows, "all", baselines, verdict(value >= SAME_GOAL),
        "the same trajectories, resampled", goal, each,
    )  # fmt: skip


def reversal(batch: Batch, cut: c.Cutter, found: c.Cuts) -> QualityReport:
    """F1 (within 0.2 s) between boundaries and those of the episode played backwards, mirrored."""
    ends = (batch.t_ns[batch.starts[1:] - 1] - batch.t_ns[batch.starts[:-1]]) * 1e-9
    again = cut(c.backwards(batch))
    mirrored = tuple((end - b)[::-1] for b, end in zip(again.boundaries, ends, strict=True))
    value, ci = ratio(*boundary_counts(found, mirrored, NEAR_S))
    chance = _pooled(boundary_counts(c.at_random(found, batch), mirrored, NEAR_S))
    return QualityReport(
        "reversal", value if np.isfinite(value) else 1.0, ci, len(batch.episodes), batch.steps.num_rows, "all",
        {"random_same_count": chance}, verdict(not value < SAME_GOAL), "the same episodes, played backwards", f"at least {SAME_GOAL}",
    )  # fmt: skip


def compression(batch: Batch, found: c.Cuts) -> QualityReport:
    """Codes per label after macro merges learnt on the `val` half, on the `test` half; shuffled labels must compress less."""
    goal = "exact inverse; below 1 and below shuffled labels"
    orders = [_sequence(found, batch, e) for e in range(len(batch.episodes))]
    test = [e in set(batch.part("test").episodes) for e in batch.episodes]
    learnt = [o for o, t in zip(orders, test, strict=True) if not t]
    judged = [o for o, t in zip(orders, test, strict=True) if t]
    if sum(map(len, learnt)) < 2 or sum(map(len, judged)) < 2:
        return not_measurable(
            "compression", "too few segments to learn macro codes from one half and judge them on the other", goal
        )

    def measure(sequences: list[list[int]], merges: tuple[tuple[int, int], ...]) -> tuple[F64, F64, bool]:
        codes = [compress(s, merges, len(PHASES)) for s in sequences]
        exact = all(expand(z, merges, len(PHASES)) == s for z, s in zip(codes, sequences, strict=True))
        return np.array([len(z) for z in codes], np.float64), np.array([len(s) for s in sequences], np.float64), exact

    merges = learn(learnt, len(PHASES))
    codes, labels, exact = measure(judged, merges)
    value, ci = ratio(codes, labels)
    rng = np.random.Generator(np.random.Philox(0))
    mixed = [rng.permutation(s).tolist() for s in judged]
    shuffled = measure(mixed, merges)
    shuffled_ratio = float(shuffled[0].sum() / shuffled[1].sum())
    share = np.bincount([x for s in orders for x in s], minlength=len(PHASES)) / sum(map(len, orders))
    bits = [description_bits([compress(s, m, len(PHASES)) for s in learnt], m, len(PHASES)) for m in ((), merges)]
    detail = {
        "macros": len(merges), "bits_raw": bits[0], "bits_with_macros": bits[1], "steps_per_segment": batch.steps.num_rows / sum(map(len, orders)),
        "label_entropy_bits": float(-(share[share > 0] * np.log2(share[share > 0])).sum()), "exact_inverse": exact and shuffled[2],
    }  # fmt: skip
    return QualityReport(
        "compression", value, ci, len(judged), int(labels.sum()), "learnt on val, judged on test", {"shuffled_labels": shuffled_ratio},
        verdict(exact and value < min(1.0, shuffled_ratio)), "no truth needed", goal, detail,
    )  # fmt: skip


def skill_agreement(annotator: "Segments", batch: Batch) -> QualityReport:
    """Share of segments whose largest energy is their dominant degree of freedom by the simulator's raw state, by another formula."""
    from annotators.segments.dominant import dominant_skills

    found = dominant_skills(annotator, batch)
    goal = "at least 0.9 and above the commonest skill"
    if isinstance(found, str):
        return not_measurable("skill_agreement", found, goal)
    mine, true, episode = found
    right = np.bincount(episode, mine == true, len(batch.episodes)).astype(np.float64)
    value, ci = ratio(right, np.bincount(episode, minlength=len(batch.episodes)).astype(np.float64))
    common = float(np.bincount(true, minlength=3).max() / len(true))
    mixed = np.random.Generator(np.random.Philox(0)).permutation(mine)
    return QualityReport(
        "skill_agreement", value, ci, len(batch.episodes), len(true), "all",
        {"commonest_skill": common, "shuffled": float((mixed == true).mean())}, verdict(value >= 0.9 and value >= common),
        "simulator state, total variation of the raw signals", goal,
    )  # fmt: skip


def _order_scores(batch: Batch, found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Edit score (mean over episodes) and F1@IoU (pooled)."""
    spans = [slice(int(a), int(b)) for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True)]
    edits = [scores.edit_score(_squeezed(found[s]), _squeezed(truth[s])) for s in spans]
    result = {"edit_score": float(np.mean(edits))}
    for iou in (0.1, 0.25, 0.5):
        counts = np.sum([scores.overlap_hits(found[s], truth[s], iou) for s in spans], 0)
        result[f"f1_at_iou_{iou}"] = scores.f1(*counts.tolist())
    return result


def _squeezed(labels: np.ndarray) -> list[int]:
    return labels[changes(labels)].tolist()


def _sequence(found: c.Cuts, batch: Batch, episode: int) -> list[int]:
    """Labels of an episode's segments; stretches without one are left out."""
    return [x for x in c.order_of(found, batch, episode).tolist() if x >= 0]


def _pooled(counts: tuple[F64, F64]) -> float:
    return float(counts[0].sum() / counts[1].sum()) if counts[1].sum() else 1.0


def _rises(boundaries: F64, end: float) -> bool:
    return bool((np.diff(np.concatenate([[0.0], boundaries, [end + 1e-6]])) > 0).all())
