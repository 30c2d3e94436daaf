"""Preference pairs: of two attempts from the same beginning, the better and the worse one; columns as `datasets` and TRL want them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from schemas.attempts import ROOT, Step
from transforms.attempts.tree import Tree

_MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
PREFERENCES = pa.schema(
    [
        pa.field("prompt", _MESSAGES, nullable=False),
        pa.field("chosen", _MESSAGES, nullable=False),
        pa.field("rejected", _MESSAGES, nullable=False),
        pa.field("score_chosen", pa.float64(), nullable=False),
        pa.field("score_rejected", pa.float64(), nullable=False),
        pa.field("tree", pa.string(), nullable=False),
        pa.field("prompt_hash", pa.string(), nullable=False),  # digest of what both share
        pa.field("chosen_nodes", pa.list_(pa.string()), nullable=False),
        pa.field("rejected_nodes", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of one prefix; `chosen` is better by at least the margin asked for."""

    tree: str
    prefix: tuple[str, ...]
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    better: float
    worse: float


def pairs(tree: Tree, margin: float = 1e-9) -> Iterator[Pair]:
    """Yield, per branching, each pair of its children with `R_w - R_l >= margin`; a child stands for the best attempt through it.

    Pairs come by parent and child name, so the same tree gives the same pairs.
    """
    for parent, names in tree.siblings():
        prefix = tree.path(parent) if parent != ROOT else ()
        judged = [(n, r) for n in names if (r := tree.outcome(n)) is not None]
        for winner, high in judged:
            for loser, low in judged:
                if winner != loser and high - low >= margin:
                    yield Pair(tree.rows[winner]["tree"], prefix, best(tree, winner), best(tree, loser), high, low)


def best(tree: Tree, node: str) -> tuple[str, ...]:
    """Return `node` and the nodes below it that lead to its best attempt; the first by name among equals."""
    found = [node]
    while children := tree.children.get(found[-1], ()):
        target = tree.outcome(found[-1])
        following = next((c for c in children if tree.outcome(c) == target), None)
        if following is None:
            break  # the attempt that counted ended here
        found.append(following)
    return tuple(found)


def preference_table(tree: Tree, found: Iterable[Pair] | None = None) -> pa.Table:
    """Return rows of `PREFERENCES` for some pairs, or all of them; recordings are named as `<episode id>@<start>-<end> s` in the messages."""
    rows = [
        {
            "prompt": messages(tree, _prompt(tree, p)), "chosen": messages(tree, _own(tree, p.chosen, p)),
            "rejected": messages(tree, _own(tree, p.rejected, p)), "score_chosen": p.better, "score_rejected": p.worse, "tree": p.tree,
            "prompt_hash": tree.rows[p.prefix[-1]]["prefix"] if p.prefix else (tree.rows[p.chosen[0]]["state"] or ROOT),
            "chosen_nodes": list(p.chosen), "rejected_nodes": list(p.rejected),
        }
        for p in (pairs(tree) if found is None else found)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PREFERENCES)


def messages(tree: Tree, steps: tuple[Step, ...]) -> list[dict[str, str]]:
    """Return chat messages of steps; a recording is one assistant message that names its span."""
    return [
        {"role": s.turn.role, "content": s.turn.text} if s.turn else {"role": "assistant", "content": span(tree, s.node)}
        for s in steps
    ]


def span(tree: Tree, node: str) -> str:
    """Name the recorded span a node stands for."""
    row = tree.rows[node]
    times = [f"{row[k] * 1e-9:.3f}" if row[k] is not None else "?" for k in ("start_ns", "end_ns")]
    return f"{row['episode_id'] or row['content']}@{times[0]}-{times[1]} s"


def _prompt(tree: Tree, pair: Pair) -> tuple[Step, ...]:
    shared = tree.steps(pair.prefix, trained=False)
    return shared + _leading(tree, pair)


def _own(tree: Tree, nodes: tuple[str, ...], pair: Pair) -> tuple[Step, ...]:
    return tree.steps(nodes)[len(_leading(tree, pair)) :]


def _leading(tree: Tree, pair: Pair) -> tuple[Step, ...]:
    """Turns that are not the author's own and that both continuations begin with: a user's question belongs to the prompt."""
    shared: list[Step] = []
    for a, b in zip(tree.steps(pair.chosen), tree.steps(pair.rejected), strict=False):
        if a.turn is None or a.turn != b.turn or a.turn.role == "assistant":
            break
        shared.append(Step(a.node, a.turn, a.at, trained=False))
    return tuple(shared)
