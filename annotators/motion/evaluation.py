"""How good are language motions? Invariance to the sampling rate, robustness to noise, agreement with kinematics, predictiveness.

Every metric takes any function from steps to codes, so that baselines and adversarial twins (shuffled codes, rules counted in
frames) go the same way as the annotator, and a gate that its twin passes shows itself as broken.
"""

import warnings
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.evaluation import (
    QualityReport,
    area_under_roc,
    bootstrap,
    folds,
    known,
    not_measurable,
    ratio,
    total_variation,
    verdict,
)
from annotators.motion.kinematic_gates import KINEMATIC, kinematic_gates
from annotators.motion.labellers import RATES, Labeller, labels_of, per_episode, share_of, shared_instants
from annotators.motion.labels import StepLabels
from annotators.motion.probe import is_absolute, noisy, resampled
from annotators.motion.read import step_column
from annotators.motion.source import MotionSource
from transforms.grid import BOOL, runs
from transforms.rotation import F64

TV_GOAL, FLIP_GOAL, AUC_GOAL, STILL_GOAL = 0.05, 0.03, 0.60, 0.40
NOISE_M, NOISE_DEG, NOISES = 0.001, 1.0, 4
SURE = 0.05  # margin of a label that hangs on no threshold
CLUSTERS = 64
if TYPE_CHECKING:
    from annotators.motion.language_motion import LanguageMotion


def evaluate_motion(annotator: "LanguageMotion", batch: Batch, label: Labeller | None = None) -> tuple[QualityReport, ...]:
    """Return every report of sheet 3.4; `label` replaces the annotator's own labels, to put a twin in its place."""
    names = ("rate_invariance", "noise_flip_rate", "hold_still_share", *KINEMATIC, "predictiveness")
    usable = annotator.usable(batch.contract)
    if isinstance(usable, str):
        return tuple(not_measurable(n, usable) for n in names)
    source, frame = usable
    other = replace(annotator, config=replace(annotator.config, rule="ecot_verbatim", frame_ref="base"))
    ecot = None if isinstance(other.usable(batch.contract), str) else other.label
    mine = label or annotator.label
    turn = frame.turn if frame.ref != "ee" else None
    return (
        rate_invariance(mine, batch, source, {"ecot_verbatim": ecot}),
        noise_flip_rate(mine, batch, source, {"ecot_verbatim": ecot}),
        hold_still_share(mine, batch, {"ecot_verbatim": ecot}),
        *kinematic_gates(mine, batch, source, turn, annotator.config, {"ecot_verbatim": ecot, "shuffled": shuffled(mine)}),
        predictiveness(mine, batch, source, {"ecot_verbatim": ecot, "shuffled": shuffled(mine)}),
    )


def shuffled(label: Labeller, seed: int = 0) -> Labeller:
    """Return the adversarial twin of `label`: the same codes, dealt out over the valid steps at random."""

    def twin(batch: Batch) -> StepLabels | str:
        labels = label(batch)
        if isinstance(labels, str):
            return labels
        places = np.flatnonzero(labels.reason == 0)
        code = labels.code.copy()
        code[:, places] = code[:, np.random.Generator(np.random.Philox(seed)).permutation(places)]
        return replace(labels, code=code)

    return twin


def rate_invariance(label: Labeller, batch: Batch, source: MotionSource, baselines: dict[str, Labeller | None]) -> QualityReport:
    """Largest total-variation distance between the label distributions of one motion sampled at 5 to 50 Hz.

    Distributions are taken at the instants that all rates share, so that sampling itself adds no distance.
    """
    goal = f"below {TV_GOAL}"
    if not is_absolute(source):
        return not_measurable("rate_invariance", "commands belong to their rate and cannot be resampled", goal)
    value, ci, rows, detail = _largest_distance(label, batch, source)
    others = {n: _largest_distance(b, batch, source)[0] for n, b in baselines.items() if b is not None}
    told = "the same trajectories, resampled"
    episodes = len(batch.episodes)
    return QualityReport(
        "rate_invariance", value, ci, episodes, rows, "all", others, verdict(value < TV_GOAL), told, goal, detail
    )


def noise_flip_rate(label: Labeller, batch: Batch, source: MotionSource, baselines: dict[str, Labeller | None]) -> QualityReport:
    """Share of steps whose code changes under noise, mean of four draws; the margin must tell which.

    Noise of 1 mm and 1 degree is root mean square, per point and per turn or joint.
    """
    goal = f"below {FLIP_GOAL}, and the margin tells flips from others (AUC above {AUC_GOAL})"
    if not is_absolute(source):
        return not_measurable("noise_flip_rate", "commands carry no sensor noise", goal)
    views = [noisy(batch, source, NOISE_M, NOISE_DEG, seed) for seed in range(NOISES)]
    harder = noisy(batch, source, NOISE_M * 3**0.5, NOISE_DEG * 3**0.5, seed=0)

    def measure(how: Labeller, disturbed: list[Batch]) -> tuple[StepLabels, BOOL, BOOL]:
        """Return the labels, and per draw (laid end to end) which steps have one before and after and which of them changed."""
        before = labels_of(how, batch)
        after = [labels_of(how, view) for view in disturbed]
        both = np.stack([(before.reason == 0) & (a.reason == 0) for a in after])
        return before, both, np.stack([(before.code != a.code).any(0) for a in after]) & both

    before, both, flipped = measure(label, views)
    value, ci = ratio(per_episode(batch, flipped.sum(0)), per_episode(batch, both.sum(0)))
    others = {n: share_of(*measure(how, views)[1:]) for n, how in baselines.items() if how is not None}
    judged, margin = both & np.isfinite(before.margin), np.tile(before.margin, (NOISES, 1))
    auc = area_under_roc(-margin[judged], flipped[judged])
    sure = judged & (margin > SURE)
    detail = {
        "margin_predicts_flips_auc": known(auc),
        "with_that_noise_per_coordinate": share_of(*measure(label, [harder])[1:]),
        f"flips_where_margin_above_{SURE}": share_of(sure, flipped & sure),
        f"share_with_margin_above_{SURE}": share_of(judged, sure),
    }
    rows, gate = int(both[0].sum()), verdict(value < FLIP_GOAL and not auc <= AUC_GOAL)  # NaN: nothing flips, or no margin
    return QualityReport(
        "noise_flip_rate", value, ci, len(batch.episodes), rows, "all", others, gate, "noise added to the recording",
        goal, detail,
    )  # fmt: skip


def hold_still_share(label: Labeller, batch: Batch, baselines: dict[str, Labeller | None]) -> QualityReport:
    """Share of valid steps labelled as still; more than 40 % means that the thresholds do not fit the robot."""
    labels = labels_of(label, batch)
    valid = labels.reason == 0
    still = valid & (labels.code == 0).all(0)
    value, ci = ratio(per_episode(batch, still), per_episode(batch, valid))
    others = {}
    for name, how in baselines.items():
        if how is not None:
            found = labels_of(how, batch)
            others[name] = share_of(found.reason == 0, (found.reason == 0) & (found.code == 0).all(0))
    detail = {
        "distinct_codes": len(np.unique(labels.code[:, valid], axis=1).T),
        "coverage": float(valid.mean()),
        **_lengths(labels, batch),
    }
    rows, goal = int(valid.sum()), f"at most {STILL_GOAL}"
    gate = verdict(value <= STILL_GOAL) if rows else "not-measurable"
    return QualityReport(
        "hold_still_share",
        value if rows else None,
        ci,
        len(batch.episodes),
        rows,
        "all",
        others,
        gate,
        "no truth needed",
        goal,
        detail,
    )


def predictiveness(label: Labeller, batch: Batch, source: MotionSource, baselines: dict[str, Labeller | None]) -> QualityReport:
    """How much the code lowers the error of a linear action predictor: 1 - error(o, code) / error(o), held-out episodes.

    Baselines: the same with shuffled codes, with ECoT's, and with k-means clusters of the very actions to predict (RT-H-Cluster; it
    peeks, so it bounds what a code of that size can do).
    """
    goal = "above zero and above shuffled codes, intervals apart"
    action = next((f for f in batch.contract.features if f.role == "action" and f.dtype.startswith("float")), None)
    state = [f.name for f in batch.contract.features if f.role == "state" and f.dtype.startswith("float") and not f.privileged]
    if source.kind == "action" or action is None or not state:
        why = "the codes are made from the actions" if source.kind == "action" else "no actions or no state"
        return not_measurable("predictiveness", why, goal)
    if len(batch.episodes) < 2:
        return not_measurable("predictiveness", "one episode cannot be held out", goal)
    o = np.concatenate([step_column(batch.steps.column(n)) for n in state]).T
    a = step_column(batch.steps.column(action.name)).T
    labels = labels_of(label, batch)
    use = (labels.reason == 0) & np.isfinite(o).all(1) & np.isfinite(a).all(1)
    if not use.any():
        return not_measurable("predictiveness", "no step has a motion", goal)
    part = np.repeat(folds(batch.episodes), np.diff(batch.starts))

    def measure(extra: F64) -> tuple[float, tuple[float, float] | None]:
        with_code = _errors(np.concatenate([o, extra], 1), a, use, part)
        return ratio(per_episode(batch, alone - with_code), per_episode(batch, alone))

    alone = _errors(o, a, use, part)
    value, ci = measure(_one_hot(labels.code))
    others: dict[str, float] = {}
    ceiling = 0.0
    for name, how in baselines.items():
        if how is not None:
            others[name], spread = measure(_one_hot(labels_of(how, batch).code))
            ceiling = spread[1] if name == "shuffled" and spread else ceiling
    others["kmeans_of_actions"] = measure(_clusters(a, use, len(np.unique(labels.code[:, use], axis=1).T)))[0]
    gate = verdict(ci is not None and ci[0] > max(0.0, ceiling))
    parts = len(np.unique(part))
    return QualityReport(
        "predictiveness", value, ci, len(batch.episodes), int(use.sum()), f"{parts} folds by hash of episode", others, gate,
        f"recorded actions ({action.name})", goal, {"predictor": "ridge", "observations": state},
    )  # fmt: skip


def _largest_distance(
    label: Labeller, batch: Batch, source: MotionSource
) -> tuple[float, tuple[float, float] | None, int, dict[str, float | None]]:
    codes, seen, episode = [], [], np.empty(0, np.int64)
    for hz in RATES:
        view = resampled(batch, source, hz)
        labels = labels_of(label, view)
        shared = shared_instants(view, hz)
        codes.append(labels.code[:, np.concatenate(shared)])
        seen.append(labels.reason[np.concatenate(shared)] == 0)
        episode = np.repeat(np.arange(len(shared)), [len(s) for s in shared])
    valid = np.logical_and.reduce(seen)
    told = np.stack(codes)[:, :, valid].transpose(0, 2, 1)  # rates, instants, axes
    kinds, which = np.unique(told.reshape(-1, told.shape[2]), axis=0, return_inverse=True)
    which = which.reshape(len(RATES), -1)
    table = np.zeros((len(RATES), len(batch.episodes), max(len(kinds), 1)))
    for rate in range(len(RATES)):
        np.add.at(table[rate], (episode[valid], which[rate]), 1)
    pairs = list(combinations(range(len(RATES)), 2))

    def statistic(draws: F64) -> F64:
        pooled = [draws @ t for t in table]
        return np.max([total_variation(pooled[i], pooled[j]) for i, j in pairs], axis=0)

    value = float(statistic(np.ones((1, len(batch.episodes))))[0])
    detail = {f"{RATES[i]}-{RATES[j]}Hz": float(total_variation(table[i].sum(0), table[j].sum(0))) for i, j in pairs}
    agree = float((which == which[0]).all(0).mean()) if which.size else float("nan")
    return (
        value,
        bootstrap(statistic, len(batch.episodes)),
        int(valid.sum()),
        {**detail, "instants_where_all_agree": known(agree)},
    )


def _lengths(labels: StepLabels, batch: Batch) -> dict[str, float]:
    """Quantiles of how long a label holds, seconds."""
    first, length = runs(labels.changes(batch))
    step = np.median(np.diff(batch.t_ns)) * 1e-9 if len(batch.t_ns) > 1 else 0.0
    held = length[labels.reason[first] == 0] * step
    return {f"run_seconds_p{q}": float(np.percentile(held, q)) for q in (10, 50, 90)} if len(held) else {}


def _one_hot(code: npt.NDArray[np.int8]) -> F64:
    """Two columns per axis: on towards minus, on towards plus."""
    signs = np.sign(code).T.astype(np.float64)
    return np.concatenate([signs > 0, signs < 0], 1).astype(np.float64)


def _clusters(action: F64, use: BOOL, count: int) -> F64:
    """One-hot k-means clusters of the actions themselves, as many as there are codes."""
    from scipy.cluster.vq import kmeans2

    data = np.nan_to_num(action)
    spread = data[use].std(0)
    data = ((data - data[use].mean(0)) / np.where(spread > 1e-9, spread, 1.0))[:, spread > 1e-9]
    k = max(2, min(count, CLUSTERS, int(use.sum()) // 10))
    first = np.random.Generator(np.random.Philox(0)).choice(np.flatnonzero(use), k, replace=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        _, which = kmeans2(data, data[first], minit="matrix")
    return np.eye(k)[which]


def _errors(x: F64, y: F64, use: BOOL, part: npt.NDArray[np.int64]) -> F64:
    """Squared error per step of ridge regression, each fold predicted from the others; zero where not used."""
    errors = np.zeros(len(x))
    for fold in np.unique(part):
        train, test = use & (part != fold), use & (part == fold)
        if not train.any() or not test.any():
            continue
        mean, scale = x[train].mean(0), x[train].std(0)
        features = np.concatenate([(x - mean) / np.where(scale > 1e-9, scale, 1.0), np.ones((len(x), 1))], 1)
        centre, spread = y[train].mean(0), y[train].std(0)
        target = ((y - centre) / np.where(spread > 1e-9, spread, 1.0))[:, spread > 1e-9]
        gram = features[train].T @ features[train] + 1e-3 * train.sum() * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features[train].T @ target[train])
        errors[test] = ((features[test] @ weights - target[test]) ** 2).sum(1)
    return errors
