"""The gates that need nothing but arrays: what a latent tells about actions, beside everybody who could tell it without learning."""

from dataclasses import replace

import numpy as np

from annotators.evaluation import QualityReport, known, not_measurable, ratio, verdict
from annotators.latent.gates.evidence import F64, Evidence, permutation
from annotators.latent.gates.probe import Read, above, network_probe, ridge_predictions, ridge_probe

LEAST_EPISODES, LEAST_ROWS = 3, 50
LEAK_GOAL, MOTION_GOAL = 0.25, 0.7
GOAL = "more than the first picture alone, proprioception, flow_latent, the untrained model and permuted labels, paired intervals above 0"
CEILINGS = ("raw_pair", "supervised_idm")  # they see the pair itself: shown, not to be beaten


def judge_actions(evidence: Evidence, *, network: bool = True) -> tuple[QualityReport, ...]:
    """Report how much of the action a linear and a small nonlinear probe read off the latent, and what else could tell it.

    Baselines: the first picture's features, proprioception, `flow_latent`, the untrained model, permuted labels; and the ceilings:
    features of both pictures, and a network trained on those with the same labels (a supervised inverse dynamics model).

    Args:
        evidence: what is judged.
        network: whether to run the nonlinear probes too; they take seconds.
    """
    metrics = ("action_r2_linear", "action_r2_network") if network else ("action_r2_linear",)
    if (why := _too_little(evidence)) is not None:
        return tuple(not_measurable(m, why, GOAL) for m in metrics)
    idm = network_probe(evidence.pair, evidence.action, evidence.episode, evidence.names) if network else None
    return tuple(_report(m, evidence, m == "action_r2_network", idm) for m in metrics)


def judge_leak(evidence: Evidence) -> QualityReport:
    """Report how much of the second picture the latent alone tells: an action is what changes, not what is there.

    The error of a mean picture is R2 = 0. Baselines: permuted labels, `flow_latent`, and the first picture, which knows the scene.
    """
    goal = f"R2 of the second picture's features from the latent alone at most {LEAK_GOAL}"
    if (why := _too_little(evidence)) is not None:
        return not_measurable("second_picture_r2", why, goal)
    wanted = evidence.second.astype(np.float64)

    def read(features: F64) -> Read:
        return ridge_probe(features, wanted, evidence.episode, evidence.names)

    own = read(_f64(evidence.latent))
    beside = {"permuted": read(_f64(evidence.shuffled().latent)).r2, "frame_t": read(_f64(evidence.first)).r2}
    if evidence.flow is not None:
        beside["flow_latent"] = read(_f64(evidence.flow)).r2
    ci95 = own.interval()
    ok = ci95 is not None and ci95[1] <= LEAK_GOAL
    return QualityReport(
        "second_picture_r2", known(own.r2), ci95, evidence.episodes, len(evidence.latent), "all", beside, verdict(ok),
        "the pictures themselves", goal,
    )  # fmt: skip


def judge_motion(evidence: Evidence) -> QualityReport:
    """Report how the size of the latent follows the size of the flow (ViPRA asks for .7): rank correlation, mean over episodes."""
    goal = f"at least {MOTION_GOAL}"
    if evidence.flow is None:
        return not_measurable("motion_correlation", "no flow of the same pictures", goal)
    if (why := _too_little(evidence)) is not None:
        return not_measurable("motion_correlation", why, goal)
    moved = np.linalg.norm(evidence.flow[:, :-6], axis=1)
    value, ci95, rows = _rank_correlation(evidence, moved)
    twin = _rank_correlation(evidence.shuffled(), moved)[0]
    ok = ci95 is not None and ci95[0] >= MOTION_GOAL
    return QualityReport(
        "motion_correlation", known(value), ci95, evidence.episodes, rows, "all", {"permuted": twin}, verdict(ok),
        "optical flow", goal,
    )  # fmt: skip


def judge_groups(evidence: Evidence, group: list[str], what: str) -> QualityReport:
    """Report how often a linear probe tells from the latent alone which `what` an interval is of (an embodiment, a task): no gate.

    Args:
        evidence: what is judged.
        group: of each interval.
        what: how to call it.
    """
    metric, goal = f"{what}_accuracy", f"reported: a latent that tells the {what} will not carry over to another"
    kinds = sorted(set(group))
    if len(kinds) < 2 or evidence.episodes < LEAST_EPISODES:
        return not_measurable(metric, f"{len(kinds)} {what} in {evidence.episodes} episodes", goal)
    one_hot = np.eye(len(kinds))[[kinds.index(g) for g in group]]
    hit = _told(evidence.latent, one_hot, evidence)
    beside = {
        "permuted": float(_told(evidence.shuffled().latent, one_hot, evidence).mean()),
        "frame_t": float(_told(evidence.first, one_hot, evidence).mean()),
        "commonest": float(one_hot.mean(0).max()),
    }
    sums, counts = (np.bincount(evidence.episode, w, len(evidence.names)).astype(np.float64) for w in (hit, np.ones(len(hit))))
    value, ci95 = ratio(sums, counts)
    return QualityReport(
        metric, value, ci95, evidence.episodes, len(hit), "all", beside, "not-measurable", f"the {what} of each episode", goal
    )


def judge(evidence: Evidence, *, network: bool = True) -> tuple[QualityReport, ...]:
    """Run every gate that needs arrays only."""
    from annotators.latent.gates.codes import judge_codes

    found = (*judge_actions(evidence, network=network), judge_leak(evidence), judge_motion(evidence))
    found = (*found, judge_codes(evidence)) if evidence.code is not None else found
    return tuple(replace(r, detail={**evidence.detail, **r.detail}) for r in found)


def _report(metric: str, evidence: Evidence, network: bool, idm: Read | None) -> QualityReport:
    probe = network_probe if network else ridge_probe

    def read(features: F64) -> Read:
        return probe(features, evidence.action, evidence.episode, evidence.names)

    own = read(_f64(evidence.latent))
    order = permutation(len(evidence.latent), 1)
    beside = {"frame_t": read(_f64(evidence.first)), "permuted": read(_f64(evidence.latent[order]))}
    for name, features in (("state", evidence.state), ("flow_latent", evidence.flow), ("random_init", evidence.random)):
        if features is not None:
            beside[name] = read(_f64(features))
    beside["raw_pair"] = idm if network and idm is not None else read(_f64(evidence.pair))
    if idm is not None:
        beside["supervised_idm"] = idm
    gaps = {name: above(own, other) for name, other in beside.items() if name not in CEILINGS}
    ok = all(gap is not None and gap[0] > 0 for gap in gaps.values())
    room = beside["raw_pair"].r2 - beside["frame_t"].r2
    detail = {
        "informativeness": known((own.r2 - beside["frame_t"].r2) / room) if room > 0 else None,
        "per_axis": {a: known(v) for a, v in zip(evidence.axes, own.per_dimension.tolist(), strict=True)},
        "above": gaps,
        "latent_size": evidence.latent.shape[1],
    }
    values = {name: other.r2 for name, other in beside.items()}
    return QualityReport(
        metric, known(own.r2), own.interval(), evidence.episodes, len(evidence.latent), "all", values, verdict(ok),
        evidence.told_by, GOAL, detail,
    )  # fmt: skip


def _rank_correlation(evidence: Evidence, moved: F64) -> tuple[float, tuple[float, float] | None, int]:
    from scipy.stats import rankdata

    size = np.linalg.norm(evidence.latent, axis=1)
    found, rows = list[float](), 0
    for e in np.unique(evidence.episode):
        own = evidence.episode == e
        a, b = rankdata(size[own]), rankdata(moved[own])
        if a.std() > 0 and b.std() > 0:
            found.append(float(np.corrcoef(a, b)[0, 1]))
            rows += int(own.sum())
    return *ratio(np.array(found), np.ones(len(found))), rows


def _told(features: np.ndarray, one_hot: F64, evidence: Evidence) -> F64:
    """Return float64[n]: 1 where the largest of the linear probe's answers is the right one."""
    told = ridge_predictions(features, one_hot, evidence.episode, evidence.names).argmax(1)
    return (told == one_hot.argmax(1)).astype(np.float64)


def _too_little(evidence: Evidence) -> str | None:
    if evidence.episodes < LEAST_EPISODES:
        return f"{evidence.episodes} episodes: fitting, checking and measuring takes {LEAST_EPISODES}"
    if len(evidence.latent) < LEAST_ROWS:
        return f"{len(evidence.latent)} intervals with a known motion, fewer than {LEAST_ROWS}"
    return None if np.ptp(evidence.action, axis=0).max() > 0 else "nothing ever moves"


def _f64(values: np.ndarray) -> F64:
    return values.astype(np.float64)
