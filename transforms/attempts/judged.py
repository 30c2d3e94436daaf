"""What judges and verifiers said of single nodes: process rewards by part, and the best of K candidates by a verifier's word.

A node's `detail` may hold `judge`: numbers by name. `correct` and `utility` are the two parts of ReSeek's process reward; `aligned` is
the probability, said before the outcome is known, that a candidate does what its plan says (Do What You Say).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transforms.attempts.tree import Tree
from transforms.calibration import calibration_error
from transforms.intervals import Interval, paired_mean

PARTS = ("correct", "utility")
ALIGNED = "aligned"
NAMES = (*PARTS, ALIGNED)


def judge_of(tree: Tree, node: str) -> dict[str, float]:
    """Return what was said of a node; empty where nobody judged it."""
    return json.loads(tree.rows[node]["detail"] or "{}").get("judge", {})


def process_rewards(tree: Tree) -> dict[str, float]:
    """Return `r_correct + r_utility` of every node that a judge gave both, by name (ReSeek)."""
    said = {n: judge_of(tree, n) for n in tree.rows}
    return {n: said[n]["correct"] + said[n]["utility"] for n in sorted(said) if set(PARTS) <= set(said[n])}


@dataclass(frozen=True, slots=True)
class Candidates:
    """K ways to go on from one node or state.

    Attributes:
        parent: the node they begin at; empty: the state they begin in.
        nodes: first node of each.
        aligned: what the verifier said of each, in [0, 1].
        rewards: R of each.
        chosen: the one the verifier prefers; the first by name among equals.
    """

    parent: str
    nodes: tuple[str, ...]
    aligned: tuple[float, ...]
    rewards: tuple[float, ...]
    chosen: str


def candidates(tree: Tree) -> Iterator[Candidates]:
    """Yield every branching with at least two children that have both a verdict and an outcome."""
    for parent, names in tree.siblings():
        told = [(n, judge_of(tree, n).get(ALIGNED), tree.outcome(n)) for n in names]
        both = [(n, a, r) for n, a, r in told if a is not None and r is not None]
        if len(both) > 1:
            nodes, aligned, rewards = zip(*both, strict=True)
            yield Candidates(parent, nodes, aligned, rewards, nodes[int(np.argmax(aligned))])


@dataclass(frozen=True, slots=True)
class Selection:
    """What choosing by verdict brings.

    Attributes:
        best: success of the chosen ones.
        mean: success of one taken at random.
        gain: `best - mean`, over branchings.
        ci95: its interval; None below two branchings.
        error: expected calibration error of the verdicts.
        n: branchings, and candidates in them.
    """

    best: float
    mean: float
    gain: float
    ci95: Interval | None
    error: float
    n: tuple[int, int]


def selection(found: Sequence[Candidates], right: float = 0.5) -> Selection | None:
    """Measure verdicts: best-of-K against the mean of K, and how far their probabilities can be trusted; None without any."""
    if not found:
        return None
    won = [[float(r > right) for r in c.rewards] for c in found]
    best = [w[c.nodes.index(c.chosen)] for w, c in zip(won, found, strict=True)]
    mean = [sum(w) / len(w) for w in won]
    gain, ci95 = paired_mean([b - m for b, m in zip(best, mean, strict=True)])
    said, hit = np.array([a for c in found for a in c.aligned]), np.array([x > 0 for w in won for x in w])
    return Selection(
        sum(best) / len(best), sum(mean) / len(mean), gain, ci95, calibration_error(said, hit), (len(found), len(said))
    )  # fmt: skip
