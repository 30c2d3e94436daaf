"""Rollout groups, partial credit, and weights by duration: what reinforcement learning takes from a tree."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.attempts import ROOT
from transforms.attempts.tree import Tree


@dataclass(frozen=True, slots=True)
class Group:
    """Attempts from one parent, with advantages that add up to 0.

    Attributes:
        parent: the node all of them begin at; empty: the state all of them begin in.
        state: digest of that state; None for text.
        nodes: first node of each attempt.
        rewards: R of each.
        advantages: `(R - mean) / deviation`; all 0 where every R is the same.
    """

    parent: str
    state: str | None
    nodes: tuple[str, ...]
    rewards: tuple[float, ...]
    advantages: tuple[float, ...]


def groups(tree: Tree, least: int = 2) -> Iterator[Group]:
    """Yield every parent with at least `least` judged children."""
    for parent, names in tree.siblings():
        judged = [(n, r) for n in names if (r := tree.outcome(n)) is not None]
        if len(judged) >= least:
            nodes, rewards = zip(*judged, strict=True)
            state = (
                tree.rows[nodes[0]]["state"] if parent == ROOT else (tree.rows[nodes[0]]["state"] or tree.rows[parent]["prefix"])
            )
            yield Group(parent, state, nodes, rewards, advantages(rewards))


def advantages(rewards: Sequence[float]) -> tuple[float, ...]:
    """Return `(R_i - mean) / deviation` (population); zeros where nothing varies."""
    mean = math.fsum(rewards) / len(rewards)
    spread = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / len(rewards))
    return tuple((r - mean) / spread if spread > 1e-12 else 0.0 for r in rewards)


def multi_view_reward(metrics: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> tuple[float, ...]:
    """Return `sum over metrics of w * z(metric)` per rollout: metrics of several views on one scale (persistent world models).

    `metrics` holds one value per rollout for each name such as `front.lpips`; a metric to be small has a negative weight.
    """
    count = len(next(iter(metrics.values()), ()))
    total = [0.0] * count
    for name, values in metrics.items():
        total = [t + weights.get(name, 0.0) * z for t, z in zip(total, advantages(values), strict=True)]
    return tuple(total)


def partial_credit(reached: Sequence[str], milestones: Mapping[str, float], *, success: bool) -> float:
    """Return the weighted share of milestones reached: rising with each, 1 exactly for a success.

    An attempt that reached every milestone and yet failed gets the largest number below 1.
    """
    if success:
        return 1.0
    total = math.fsum(milestones.values())
    share = math.fsum(w for name, w in sorted(milestones.items()) if name in set(reached)) / total if total > 0 else 0.0
    return min(share, math.nextafter(1.0, 0.0))


def duration_weights(durations: Sequence[float]) -> tuple[float, ...]:
    """Return `duration / mean duration` per attempt.

    Asynchronous workers finish short attempts more often, in proportion to 1 / duration; weighted so, every attempt counts the same.
    """
    mean = math.fsum(durations) / len(durations) if durations else 1.0
    return tuple(d / mean for d in durations)
