"""Views of attempts by name, as tables ready to be written: the same rows for the same trees, each with the nodes it comes from."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from schemas.attempts import Step
from schemas.errors import UsageError
from transforms.attempts.choices import choices
from transforms.attempts.errors import first_error
from transforms.attempts.groups import duration_weights, groups, partial_credit
from transforms.attempts.interventions import interventions
from transforms.attempts.judged import candidates, judge_of, process_rewards
from transforms.attempts.memory import histories, refinements
from transforms.attempts.preference import messages, preference_table, span
from transforms.attempts.regenerations import regenerations
from transforms.attempts.splice import splices
from transforms.attempts.thoughts import corrected_thoughts, thought_of
from transforms.attempts.tree import Tree
from transforms.attempts.turns import records, turn_pairs

Rows = Iterator[dict[str, Any]]
PROCESS_WEIGHT = 1.0  # of the mean process reward of a suffix, beside its outcome


def view(tree: Tree, name: str) -> pa.Table:
    """Return the view called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in VIEWS:
        raise UsageError(f"there is no view {name!r} of attempts; there are {sorted(VIEWS)}")
    made = VIEWS[name](tree)
    return made if isinstance(made, pa.Table) else pa.Table.from_pylist(list(made))


def _conversation(tree: Tree, steps: tuple[Step, ...]) -> dict[str, Any]:
    """Return the task, and messages with a loss mask and the node of each."""
    return {
        "task": next((tree.rows[s.node]["task"] for s in steps), None),
        "messages": messages(tree, steps), "loss_mask": [int(s.trained) for s in steps], "nodes": [s.node for s in steps],
        "spans": [span(tree, s.node) if s.turn is None else "" for s in steps],
    }  # fmt: skip


def _splices(tree: Tree) -> Rows:
    for s in splices(tree):
        yield {
            "tree": s.tree,
            "bad": s.bad,
            "good": s.good,
            "ancestor": s.ancestor,
            "state": s.state,
            "outcome": s.outcome,
            **_conversation(tree, s.steps),
        }


def _interventions(tree: Tree) -> Rows:
    for i in interventions(tree):
        low, high = i.ci95 or (None, None)
        yield {
            "tree": i.tree, "original": i.original, "inserted": i.inserted, "gain": i.gain, "gain_low": low, "gain_high": high,
            "judged": list(i.n), "won": list(i.won), **_conversation(tree, i.steps),
        }  # fmt: skip


def _regenerations(tree: Tree) -> Rows:
    for r in regenerations(tree, process_rewards(tree), PROCESS_WEIGHT):
        yield {
            "tree": r.tree,
            "cut": r.cut,
            "prefix": r.prefix,
            "reward": r.reward,
            "gain": r.gain,
            **_conversation(tree, r.steps),
        }


def _refinements(tree: Tree) -> Rows:
    for leaf, steps in refinements(tree):
        yield {"tree": tree.rows[leaf]["tree"], "leaf": leaf, **_conversation(tree, steps)}


def _records(tree: Tree) -> Rows:
    for r in records(tree):
        yield {**asdict(r), "nodes": list(r.nodes), "rewards": list(r.rewards), "shaped": list(r.shaped)}


def _turn_preferences(tree: Tree) -> pa.Table:
    return preference_table(tree, turn_pairs(list(records(tree)), tree))


def _process(tree: Tree) -> Rows:
    for node, reward in process_rewards(tree).items():
        said = judge_of(tree, node)
        yield {
            "tree": tree.rows[node]["tree"], "node": node, "correct": said["correct"], "utility": said["utility"], "reward": reward
        }  # fmt: skip


def _candidates(tree: Tree) -> Rows:
    for c in candidates(tree):
        for node, aligned, reward in zip(c.nodes, c.aligned, c.rewards, strict=True):
            yield {
                "tree": tree.rows[node]["tree"], "parent": c.parent, "node": node, "plan": thought_of(tree, node), "aligned": aligned,
                "reward": reward, "chosen": node == c.chosen,
            }  # fmt: skip


def _thoughts(tree: Tree) -> Rows:
    for t in corrected_thoughts(tree):
        yield {
            "tree": t.tree, "state": t.state, "thought": t.thought, "correction": t.correction, "node": t.node, "by": t.by,
            **_conversation(tree, t.steps),
        }  # fmt: skip


def _groups(tree: Tree) -> Rows:
    for g in groups(tree):
        seconds = [tree.rows[n]["duration_s"] or 0.0 for n in g.nodes]
        weights = duration_weights(seconds) if all(seconds) else (None,) * len(seconds)
        for node, reward, advantage, weight in zip(g.nodes, g.rewards, g.advantages, weights, strict=True):
            yield {
                "parent": g.parent,
                "state": g.state,
                "node": node,
                "reward": reward,
                "advantage": advantage,
                "duration_weight": weight,
            }


def _first_errors(tree: Tree) -> Rows:
    for leaf in tree.leaves:
        yield {
            "tree": tree.rows[leaf]["tree"],
            "leaf": leaf,
            "outcome": tree.outcome(leaf),
            "first_error": first_error(tree, leaf),
        }


def _credits(tree: Tree) -> Rows:
    """Milestones of a task are those any of its attempts reached, weighing the same."""
    known: dict[str, set[str]] = {}
    for row in tree.rows.values():
        known.setdefault(row["task"] or "", set()).update(row["milestones"] or ())
    for leaf in tree.leaves:
        reached = [m for n in tree.path(leaf) for m in tree.rows[n]["milestones"] or ()]
        task = tree.rows[leaf]["task"] or ""
        won = (tree.outcome(leaf) or 0.0) >= 1
        weights: Mapping[str, float] = dict.fromkeys(sorted(known[task]), 1.0)
        yield {
            "tree": tree.rows[leaf]["tree"],
            "leaf": leaf,
            "reached": sorted(set(reached)),
            "credit": partial_credit(reached, weights, success=won),
        }


def _histories(tree: Tree) -> Rows:
    for h in histories(tree):
        yield {"tree": h.tree, "kept": list(h.kept), "repeated": list(h.repeated), "best": list(h.best)}


def _choices(tree: Tree) -> Rows:
    for c in choices(tree):
        yield {
            "tree": c.tree,
            "question": c.question,
            "options": list(c.options),
            "nodes": list(c.nodes),
            "answer": c.answer,
            "open_nodes": list(c.open_nodes),
        }


VIEWS: dict[str, Callable[[Tree], Rows | pa.Table]] = {
    "preference": preference_table, "splice": _splices, "intervention": _interventions, "regenerate": _regenerations,
    "refine": _refinements, "self_correction": _records,
    "turn_preference": _turn_preferences, "process": _process, "candidates": _candidates, "thought": _thoughts, "groups": _groups, "first_error": _first_errors, "credit": _credits,
    "history": _histories, "choice": _choices,
}  # fmt: skip


def to_json_lines(rows: pa.Table) -> str:
    """Return a view as JSON, one row per line."""
    return "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows.to_pylist())
