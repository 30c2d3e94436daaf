"""Self-correction over several turns: records, transitions between right and wrong, shaped rewards, and weights.

Kumar et al., SCoRe (2024); Qu et al., RISE (2024). A record is a path of attempts by one author at one question, each the child of the
one before.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from transforms.attempts.preference import Pair
from transforms.attempts.tree import Tree


@dataclass(frozen=True, slots=True)
class Record:
    """Successive attempts at one question.

    Attributes:
        tree: name of the tree.
        nodes: one node per attempt, in order.
        rewards: R of each.
        shaped: R plus `alpha` times its gain over the attempt before; the first is unshaped.
        on_policy: whether the generator asked for made all of them.
        lag: versions between the oldest attempt and the policy asked about; None where versions are unknown.
    """

    tree: str
    nodes: tuple[str, ...]
    rewards: tuple[float, ...]
    shaped: tuple[float, ...]
    on_policy: bool
    lag: int | None


def records(tree: Tree, alpha: float = 1.0, policy: str | None = None, version: int | None = None) -> Iterator[Record]:
    """Yield every path from a root to a leaf whose judged nodes are at least two, ordered by leaf.

    Args:
        tree: the attempts.
        alpha: weight of the gain in `r_2 + alpha (r_2 - r_1)`.
        policy: fingerprint of the policy that is to learn; records of others are not on-policy. None: nothing is.
        version: its version, for the lag.
    """
    for leaf in tree.leaves:
        nodes = tuple(n for n in tree.path(leaf) if _reward(tree, n) is not None)
        if len(nodes) < 2:
            continue
        rewards = tuple(float(_reward(tree, n) or 0.0) for n in nodes)
        shaped = (rewards[0], *(b + alpha * (b - a) for a, b in itertools.pairwise(rewards)))
        rows = [tree.rows[n] for n in nodes]
        same = policy is not None and all(r["generator"] == policy and version in (None, r["version"]) for r in rows)
        known = [r["version"] for r in rows if r["version"] is not None]
        lag = version - min(known) if version is not None and len(known) == len(rows) else None
        yield Record(rows[0]["tree"], nodes, rewards, shaped, same, lag)


@dataclass(frozen=True, slots=True)
class Transitions:
    """Counts of first and second attempts, right (1) or wrong (0): `counts[first][second]`."""

    counts: tuple[tuple[int, int], tuple[int, int]]

    @property
    def total(self) -> int:
        """Number of records."""
        return sum(map(sum, self.counts))

    @property
    def gain(self) -> float:
        """Accuracy of the second attempt less that of the first, which equals what was put right less what was spoiled."""
        return (self.counts[0][1] - self.counts[1][0]) / self.total if self.total else 0.0


def transitions(found: Sequence[Record], right: float = 0.5) -> Transitions:
    """Count the first two attempts of every record; R above `right` is right."""
    counts = [[0, 0], [0, 0]]
    for record in found:
        counts[int(record.rewards[0] > right)][int(record.rewards[1] > right)] += 1
    return Transitions((tuple(counts[0]), tuple(counts[1])))  # pyright: ignore[reportArgumentType]


def turn_pairs(found: Sequence[Record], tree: Tree, right: float = 0.5) -> Iterator[Pair]:
    """Yield the first two attempts of every record of which one is right and one wrong, as a preference between answers to one prompt.

    A wrong answer that was put right teaches to prefer the second, a right one that was spoiled the first (SCL, 2024).
    """
    for record in found:
        first, second = record.nodes[:2]
        good = record.rewards[0] > right, record.rewards[1] > right
        if good[0] != good[1]:
            chosen, rejected = (first, second) if good[0] else (second, first)
            best, worst = (0, 1) if good[0] else (1, 0)
            prefix = tree.path(first)[:-1]
            yield Pair(record.tree, prefix, (chosen,), (rejected,), record.rewards[best], record.rewards[worst])


def success_by_turn(found: Sequence[Record], right: float = 0.5) -> tuple[float, ...]:
    """Return the share of records solved within the first k attempts, for k = 1, 2, ...; it never falls."""
    longest = max((len(r.rewards) for r in found), default=0)
    return tuple(sum(any(x > right for x in r.rewards[:k]) for r in found) / len(found) for k in range(1, longest + 1))


def reward_weights(rewards: Mapping[str, float], temperature: float = 1.0) -> dict[str, float]:
    """Return `exp(r / temperature) / Z` per name; they add up to 1."""
    top = max(rewards.values(), default=0.0)
    raw = {name: math.exp((r - top) / temperature) for name, r in rewards.items()}
    total = sum(raw.values())
    return {name: w / total for name, w in raw.items()}


def _reward(tree: Tree, node: str) -> float | None:
    row = tree.rows[node]
    if row["outcome"] is not None:
        return float(row["outcome"])
    return None if row["success"] is None else float(row["success"])
