"""Corrections spoken to a robot: LeRobot's `interjection` events cut an episode, and what was done before one is what it corrects."""

from typing import Any

import numpy as np

from pipelines.attempts.recorded import EFFECT, Recorded
from pipelines.proprioception import actions, matrix
from pipelines.sources.lerobot.info import LANGUAGE_COLUMNS
from pipelines.sources.lerobot.language import atoms_of
from schemas.attempts import Node, Turn
from schemas.errors import DataError
from transforms.attempts.corrections import effect_ns

STYLE = "interjection"
HORIZON_S = 2.0  # how long a spoken correction may take to have an effect
BEFORE_S = 1.0  # what the robot did until then is its mean action of this long


def correction_nodes(episode: Recorded) -> list[Node]:
    """Return the tree of an episode with spoken corrections: what was done, what was said, what was done then, each the child of the one before.

    A correction's `detail` says after how many seconds the actions changed (`effect_s`), null where they did not within `HORIZON_S`.

    Raises:
        DataError: nothing was interjected.
    """
    said = interjections(episode)
    if not said:
        raise DataError(f"no language event of style {STYLE}", episode=episode.row["episode_id"])
    t, nodes, begin = episode.steps.column("t_ns").to_numpy(), list[Node](), 0
    for step, text in said:
        if step > begin:
            nodes.append(_span(episode, nodes, begin, step, error=True))
        fields: dict[str, Any] = {
            "kind": "correction", "author": "human", "turns": (Turn("user", text),), "episode_id": episode.row["episode_id"],
            "start_ns": int(t[step]), "end_ns": int(t[step]), "state": episode.state(step), "detail": {"effect_s": effect_s(episode, step)},
        }  # fmt: skip
        nodes.append(nodes[-1].child(**fields) if nodes else Node(**fields, task=episode.row["task"]))
        begin = step
    nodes.append(_span(episode, nodes, begin, len(t), outcome=episode.outcome, success=episode.row["success"]))
    return nodes


def interjections(episode: Recorded) -> list[tuple[int, str]]:
    """Return the step and the words of everything that was interjected, in order; what falls on one step is said in one breath."""
    streams = episode.shard.episode_streams(episode.row["episode_id"])
    found: dict[int, str] = {}
    for atom in atoms_of(streams, LANGUAGE_COLUMNS[1]):
        text = str(atom.body.get("content") or "").strip()
        if atom.body.get("style") == STYLE and text:
            found[atom.first] = f"{found[atom.first]} {text}" if atom.first in found else text
    return sorted(found.items())


def effect_s(episode: Recorded, step: int) -> float | None:
    """Return the seconds from a step until the action differs from what it was before by more than `EFFECT` of its spread."""
    done, t = matrix(episode.steps, actions(episode.shard.contract)), episode.steps.column("t_ns").to_numpy()
    before = done[(t >= t[step] - round(BEFORE_S * 1e9)) & (t < t[step])]
    if not len(before) or not np.isfinite(done).all():
        return None
    least = max(
        EFFECT * float(np.linalg.norm(done.std(axis=0))), float(np.abs(before - before.mean(0)).max()), np.finfo(float).tiny
    )
    felt = effect_ns(t, done - before.mean(0), int(t[step]), HORIZON_S, least * 1.001)
    return None if felt is None else (felt - int(t[step])) * 1e-9


def _span(episode: Recorded, nodes: list[Node], first: int, stop: int, **fields: Any) -> Node:
    return episode.child(nodes[-1], first, stop, **fields) if nodes else episode.node(first, stop, **fields)
