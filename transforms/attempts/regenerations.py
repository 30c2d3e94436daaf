"""Attempts cut at a node and written anew from there (Search-R2): the kept prefix is the same, the suffix is a later version's."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.attempts import ROOT, Step
from transforms.attempts.tree import Tree
from transforms.intervals import Interval, paired_mean


@dataclass(frozen=True, slots=True)
class Regeneration:
    """An attempt and the one that takes its place from a cut on.

    Attributes:
        tree: name of the tree.
        cut: last node that was kept; empty where nothing was.
        prefix: digest of what was kept: the same for both.
        old: nodes of the old suffix.
        new: nodes of the new one.
        steps: kept nodes, untrained, and the new suffix, trained.
        reward: R of the new attempt plus `weight` times its process reward.
        gain: R of the new attempt less R of the old one.
    """

    tree: str
    cut: str
    prefix: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    steps: tuple[Step, ...]
    reward: float
    gain: float


def regenerations(tree: Tree, process: Mapping[str, float] | None = None, weight: float = 0.0) -> Iterator[Regeneration]:
    """Yield, for every branching, each pair of attempts below it of which the later version is the newer one.

    Versions are the nodes' `version`; attempts without one are not compared. `process` is a process reward per node; its mean over the
    new suffix counts `weight`.
    """
    for old in tree.leaves:
        for new in tree.leaves:
            before_r, after_r = tree.outcome(old), tree.outcome(new)
            if before_r is None or after_r is None or not _newer(tree.rows[old], tree.rows[new]):
                continue
            cut = tree.common(old, new)
            kept = tree.path(cut) if cut else ()
            before, after = tree.path(old)[len(kept) :], tree.path(new)[len(kept) :]
            if not before or not after:
                continue
            marks = [process[n] for n in after if n in process] if process else []
            reward = after_r + weight * (sum(marks) / len(marks) if marks else 0.0)
            steps = (*tree.steps(kept, trained=False), *tree.steps(after))
            prefix = tree.rows[cut]["prefix"] if cut else ROOT
            yield Regeneration(tree.rows[new]["tree"], cut, prefix, before, after, steps, reward, after_r - before_r)


def mean_gain(found: Sequence[Regeneration]) -> tuple[float, Interval | None]:
    """Return the mean gain and its 95 % interval. Pairs of one tree are one case: they share questions and attempts.

    Regeneration pays where the whole interval lies above 0; it does no harm that can be told where its upper end does.
    """
    gains: dict[str, list[float]] = defaultdict(list)
    for one in found:
        gains[one.tree].append(one.gain)
    return paired_mean([sum(g) / len(g) for _, g in sorted(gains.items())])


def _newer(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Tell whether `new` is an attempt of the same tree by a later version."""
    versions = old["version"], new["version"]
    return old["tree"] == new["tree"] and None not in versions and versions[0] < versions[1]
