"""Corrections that apply again: what people said or did instead, found by the context they gave it in (DROC)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from annotators.embeddings.encoders import ReadsTexts, encoder_weights, open_encoder
from catalog.lake import Lake
from pipelines.attempts.stage import read_attempts
from pipelines.memory.search import F32
from pipelines.memory.store import Entry, Memory
from schemas.errors import UsageError
from schemas.ids import short_id
from transforms.attempts.tree import Tree, open_tree, text_of

Level = Literal["plan", "skill"]
_SKILL = frozenset(  # words of how to move
    ("left", "right", "up", "down", "forward", "back", "backward", "higher", "lower", "closer", "further", "farther", "slower", "faster",
     "rotate", "turn", "tighter", "gently")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CorrectionEvent:
    """A correction somebody gave.

    Attributes:
        node: node of the attempt tree it comes from: every rule cites at least one.
        context: what was going on, in words.
        correction: what was said or shown instead.
        level: `plan` (what to do, constraints) or `skill` (how to move).
    """

    node: str
    context: str
    correction: str
    level: Level


def correction_events(tree: Tree) -> list[CorrectionEvent]:
    """Return the corrections in an attempt tree: nodes of kind `intervention` or `correction` that say something."""
    found = list[CorrectionEvent]()
    for name, row in tree.rows.items():
        if row["kind"] in ("intervention", "correction") and (said := text_of(tree.steps((name,)))):
            before = text_of(tree.steps(tree.path(name)[:-1])) or row["task"] or ""
            found.append(CorrectionEvent(name, before, said, level_of(said)))
    return found


def level_of(correction: str) -> Level:
    """Tell a correction of how to move (directions, speeds, the gripper) from one of what to do (DROC's two levels), by its words."""
    words = set(correction.lower().replace(",", " ").replace(".", " ").split())
    return "skill" if words & _SKILL else "plan"


def correction_memory(events: Sequence[CorrectionEvent], vectors: F32, model: str) -> Memory:
    """Return a memory of corrections, found by their context; `vectors` float32[N, D] embed the contexts."""
    return Memory.of([
        Entry(e.node, v, f"correction.{e.level}", said=e.correction, payload={"context": e.context, "cites": [e.node]})
        for e, v in zip(events, vectors, strict=True)
    ], model)  # fmt: skip


def recall_corrections(
    lake: Lake, source: str, context: str, k: int, encoder: str = "default", level: Level | None = None
) -> list[dict[str, Any]]:
    """Return the `k` past corrections whose context is nearest to `context`, best first: score, level, correction, context, node.

    Args:
        lake: where the attempts are.
        source: their name; empty: all.
        context: what is going on now, in words.
        k: how many.
        encoder: see `annotators.embeddings.encoders`; it must read texts.
        level: only corrections of the plan, or of the skill.

    Raises:
        UsageError: there are no such attempts, they hold no correction in words, or the encoder reads no texts.
    """
    reader = open_encoder(encoder)
    if not isinstance(reader, ReadsTexts):
        raise UsageError(f"encoder {encoder} reads no texts")
    events = correction_events(open_tree(read_attempts(lake, source)))
    if not events:
        raise UsageError(f"the attempts {source or 'of this lake'} hold no correction in words")
    model = short_id("fp", [encoder, *encoder_weights(encoder)])
    memory = correction_memory(events, reader.texts([e.context for e in events], "cpu"), model)
    found = memory.ask(reader.texts([context], "cpu"), k, model, level and f"correction.{level}")
    entries = [(memory.entry(int(r)), float(s)) for r, s in zip(found.rows[0], found.scores[0], strict=True) if r >= 0]
    return [
        {
            "score": round(score, 4), "level": e["kind"].removeprefix("correction."), "correction": e["said"],
            "context": e["payload"]["context"], "node": e["id"],
        }
        for e, score in entries
    ]  # fmt: skip
