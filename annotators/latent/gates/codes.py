"""Gates of discrete latents: is the codebook used, and do codes say anything about actions? A well used codebook may say nothing."""

import numpy as np
import numpy.typing as npt

from annotators.evaluation import QualityReport, bootstrap, not_measurable, verdict
from annotators.latent.gates.evidence import F64, Evidence, permutation
from transforms.grid import I64

USED_GOAL = 0.5
KINDS = 16  # clusters of actions
SHUFFLES = 5
GOAL = f"bits about actions above those of shuffled codes, the whole interval; at least {USED_GOAL} of the codes used as often as a tenth of an even share"


def judge_codes(evidence: Evidence) -> QualityReport:
    """Report how many bits a code tells about the action (of `KINDS` clusters) beyond what counting finds in shuffled codes.

    Counting finds bits in noise, and more in resampled noise: every draw of the interval is compared with the same draw, shuffled.
    """
    if evidence.code is None or evidence.codes < 2:
        return not_measurable("code_action_bits", "the latent is continuous", GOAL)
    if len(evidence.code) < 10 * KINDS:
        return not_measurable("code_action_bits", f"{len(evidence.code)} intervals are too few to count pairs", GOAL)
    kind = _kinds(evidence.action)
    table = _pairs(evidence.code, kind, evidence)
    twins = [_pairs(evidence.code[permutation(len(kind), s)], kind, evidence) for s in range(SHUFFLES)]

    def statistic(draws: F64) -> F64:
        return _bits(table, draws) - np.mean([_bits(t, draws) for t in twins], axis=0)

    once = np.ones((1, len(table)))
    noise = np.array([float(_bits(t, once)[0]) for t in twins])
    value, ci95 = float(statistic(once)[0]), bootstrap(statistic, len(table))
    share = np.bincount(evidence.code, minlength=evidence.codes) / len(evidence.code)
    used, most = float((share >= 0.1 / evidence.codes).mean()), float(noise.max() - noise.mean())
    ok = ci95 is not None and ci95[0] > max(most, 0.0) and used >= USED_GOAL
    detail = {
        "perplexity": perplexity(share), "codes": evidence.codes, "used": used, "bits_of_shuffled": float(noise.mean()),
        "bits_of_actions": float(entropy_bits(table.sum((0, 1))[None])[0]),
    }  # fmt: skip
    return QualityReport(
        "code_action_bits", value, ci95, evidence.episodes, len(kind), "all", {"shuffled": 0.0, "luckiest_shuffle": most},
        verdict(ok), evidence.told_by, GOAL, detail,
    )  # fmt: skip


def perplexity(share: npt.NDArray[np.floating]) -> float:
    """Return exp(entropy) of code frequencies: how many codes there would be if all were used alike. Finds collapse, nothing else."""
    return float(2 ** entropy_bits(np.asarray(share, np.float64)[None])[0])


def information_bits(tables: F64) -> F64:
    """Return the mutual information in bits, float64[R], that joint counts float64[R, C, K] show."""
    return entropy_bits(tables.sum(2)) + entropy_bits(tables.sum(1)) - entropy_bits(tables.reshape(len(tables), -1))


def _bits(table: F64, draws: F64) -> F64:
    """Return the bits of counts float64[E, C, K] under draws of episodes float64[R, E]: float64[R]."""
    drawn = draws @ table.reshape(len(table), -1)
    return information_bits(drawn.reshape(len(draws), *table.shape[1:]))


def entropy_bits(counts: F64) -> F64:
    """Return the entropy in bits, float64[R], of counts float64[R, K]."""
    p = counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(1)


def _kinds(action: F64) -> I64:
    """Return which cluster each action belongs to, by k-means on standardised actions."""
    from sklearn.cluster import KMeans

    spread = action.std(0)
    data = ((action - action.mean(0)) / np.where(spread > 0, spread, 1.0))[:, spread > 0]
    kinds = min(KINDS, len(np.unique(data, axis=0)))
    return KMeans(kinds, random_state=0).fit_predict(data).astype(np.int64)


def _pairs(code: I64, kind: I64, evidence: Evidence) -> F64:
    """Return how often each code meets each kind of action in each episode, float64[E, C, K]."""
    table = np.zeros((len(evidence.names), evidence.codes, int(kind.max()) + 1))
    np.add.at(table, (evidence.episode, code, kind), 1.0)
    return table
