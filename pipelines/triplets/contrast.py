"""Contrast triples of pairs: an anchor, the same action in another context, another action in the same context.

After Action-Disentangled Identifiers (Huang and others, 2024), who mask what varies between two examples of one action. Only joins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from schemas.ids import digest


@dataclass(frozen=True, slots=True)
class Contrast:
    """Ids of three pairs; one of the last two may be missing, not both."""

    anchor: str
    same_action: str | None
    same_context: str | None


def contrasts(rows: pl.DataFrame) -> list[Contrast]:
    """Return one triple per positive that has a partner.

    Args:
        rows: positives with `id`, `prompt`, `edit_kind`, `split`, and `context`, the scene or take they were seen in.

    Same action: the same prompt and kind of edit, in another context. Same context: another prompt there. Of several, the one whose
    hash with the anchor is smallest, so that growing a dataset changes few.
    """
    every = rows.select("id", "prompt", "edit_kind", "context", "split").rows(named=True)
    actions: dict[tuple[str, str, str], list[int]] = {}
    contexts: dict[tuple[str, str], list[int]] = {}
    for n, row in enumerate(every):
        actions.setdefault((row["prompt"], row["edit_kind"], row["split"]), []).append(n)
        contexts.setdefault((row["context"], row["split"]), []).append(n)
    found: list[Contrast] = []
    for row in every:
        alike = [
            every[n]["id"]
            for n in actions[row["prompt"], row["edit_kind"], row["split"]]
            if every[n]["context"] != row["context"]
        ]
        beside = [every[n]["id"] for n in contexts[row["context"], row["split"]] if every[n]["prompt"] != row["prompt"]]
        if alike or beside:
            found.append(Contrast(row["id"], _chosen(row["id"], alike), _chosen(row["id"], beside)))
    return found


def _chosen(anchor: str, ids: Sequence[str]) -> str | None:
    return min(ids, key=lambda name: digest([anchor, name])) if ids else None
