"""What latents are worth to a policy that has few labels: behaviour cloning on one picture, with labels for 1 % or 10 % of the intervals.

The policy sees the first picture (and proprioception) and must say the action. Ways to use latents: pre-train the policy to say latents and
read actions off its hidden layer (`pretrained`), or read latents as actions with the few labels and clone those everywhere (`relabelled`).
"""

from collections.abc import Sequence

import numpy as np

from annotators.evaluation import QualityReport, known, not_measurable, verdict
from annotators.latent.gates.evidence import F64, Evidence
from annotators.latent.gates.probe import Read, above, fit_network, ridge_predict, standard
from transforms.grid import BOOL, I64
from transforms.noise import uniforms

SHARES = (0.01, 0.1)
LEAST_LABELS, LEAST_KNOWN = 8, 0.05
GOAL = "better than the labels alone and than a supervised inverse dynamics model on the same labels, paired intervals above 0"


def judge_downstream(evidence: Evidence, shares: Sequence[float] = SHARES, seed: int = 0) -> tuple[QualityReport, ...]:
    """Report the R2 of cloned actions on held-out episodes, per share of labels: the better use of latents, against labels without latents.

    Baselines: `labels_only`, a policy fitted to the labelled intervals; `supervised_idm`, an inverse model of both pictures fitted to
    them, whose answers are cloned everywhere; `shuffled` latents; and the ceiling `all_labels`.

    Args:
        evidence: what is judged.
        shares: of the intervals that carry a label.
        seed: of which.
    """
    names = [f"downstream_r2_{s:.0%}".replace("%", "pct") for s in shares]
    if evidence.episodes < 6:
        return tuple(not_measurable(n, f"{evidence.episodes} episodes are too few to hold some out", GOAL) for n in names)
    fit, check, test = _thirds(evidence)
    seen = evidence.first if evidence.state is None else np.concatenate([evidence.first, evidence.state], 1)
    x, y = standard(seen, fit), standard(evidence.action, fit)
    best = _read(_cloned(x, y, fit, check)[test], y, test, evidence)
    if best.r2 < LEAST_KNOWN:
        why = f"one picture does not tell the action (R2 {best.r2:.2f} with every label): nobody can clone it"
        return tuple(not_measurable(n, why, GOAL) for n in names)
    return tuple(_of_share(n, s, evidence, (fit, check, test), x, y, best, seed) for n, s in zip(names, shares, strict=True))


def _of_share(
    name: str, share: float, evidence: Evidence, parts: tuple[BOOL, BOOL, BOOL], x: F64, y: F64, best: Read, seed: int
) -> QualityReport:
    fit, check, test = parts
    labelled = fit & (uniforms([seed], 5, len(fit))[0] < share)
    if labelled.sum() < LEAST_LABELS:
        return not_measurable(name, f"{int(labelled.sum())} labels at {share:.0%}, fewer than {LEAST_LABELS}", GOAL)
    z, pair = standard(evidence.latent, fit), standard(evidence.pair, fit)
    twin = standard(evidence.shuffled().latent, fit)

    def cloned(targets: F64) -> Read:
        return _read(_cloned(x, targets, fit, check)[test], y, test, evidence)

    hidden = _cloned(x, z, fit, check)  # what the pre-trained policy says of every first picture
    ways = {
        "relabelled": cloned(ridge_predict(z, y, labelled)),
        "pretrained": _read(ridge_predict(hidden, y, labelled)[test], y, test, evidence),
    }
    own = max(ways.values(), key=lambda r: r.r2)
    beside = {
        "labels_only": _read(ridge_predict(x, y, labelled)[test], y, test, evidence),
        "supervised_idm": cloned(ridge_predict(pair, y, labelled)),
        "shuffled": cloned(ridge_predict(twin, y, labelled)),
    }
    gaps = {n: above(own, other) for n, other in beside.items()}
    detail = {**{n: known(r.r2) for n, r in ways.items()}, "labels": int(labelled.sum()), "above": gaps}
    ok = all(g is not None and g[0] > 0 for g in gaps.values())
    return QualityReport(
        name, known(own.r2), own.interval(), len(np.unique(evidence.episode[test])), int(test.sum()), "a fifth of the episodes",
        {**{n: r.r2 for n, r in beside.items()}, "all_labels": best.r2}, verdict(ok), evidence.told_by, GOAL, detail,
    )  # fmt: skip


def _cloned(x: F64, y: F64, fit: BOOL, check: BOOL) -> F64:
    """Return what a policy fitted to targets everywhere says: a ridge and a network for what it leaves over, float64[n, a]."""
    line = ridge_predict(x, y, fit)
    return line + fit_network(x[fit], (y - line)[fit], x[check], (y - line)[check], 64, 12)(x)


def _thirds(evidence: Evidence) -> tuple[BOOL, BOOL, BOOL]:
    """Return which intervals are fitted, decide when to stop, and are measured, by episode: three, one and one fifths."""
    from annotators.evaluation import folds

    fold: I64 = folds(evidence.names)[evidence.episode]
    return fold > 1, fold == 1, fold == 0


def _read(said: F64, y: F64, test: BOOL, evidence: Evidence) -> Read:
    """Sum up errors per episode of the measured intervals."""
    _, where = np.unique(evidence.episode[test], return_inverse=True)
    missed, spread = np.zeros((int(where.max()) + 1, y.shape[1])), np.zeros((int(where.max()) + 1, y.shape[1]))
    np.add.at(missed, where, np.square(said - y[test]))
    np.add.at(spread, where, np.square(y[test]))
    return Read(missed, spread)
