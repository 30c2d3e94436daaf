"""What was asked of a mixture beside what its plan really draws: one row per source, and the rows as text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.mixture.weights import Weighted


@dataclass(frozen=True, slots=True)
class SourceShare:
    """One source of a compiled mixture. Shares are of the mixture's draws, or of the unit its spec names, from 0 to 1.

    Attributes:
        name: the source.
        where: its selector.
        asked: its weight over the sum of weights.
        temperature_share: its share once sizes count as the temperature says, before caps and floors.
        target: its share after caps and floors.
        quota: its draws in every `period` draws: the exact target.
        period: see `quota`.
        draws: how often the plan draws it.
        realised: draws over all draws; in another unit, the units they hold over all units.
        episodes: train episodes.
        steps: train steps, which are its items; of a source with weights, those of weight above 0.
        epochs: draws over items.
        max_epochs: its cap, if any.
        floor: its floor.
        val_episodes: held-out episodes.
        val_steps: held-out steps.
        shared: train episodes that another source also draws.
        note: what shaped the share, in words; empty if nothing did.
        items: length of an epoch: steps, or their copies.
        per_draw: mean number of the mixture's units in one draw.
        modality: what kind of co-training data it is.
        route: which heads it trains.
        ess: effective sample size over steps; below 1 through weights.
        kept: share of its steps that an epoch contains.
    """

    name: str
    where: str
    asked: float
    temperature_share: float
    target: float
    quota: int
    period: int
    draws: int
    realised: float
    episodes: int
    steps: int
    epochs: float
    max_epochs: float | None
    floor: float
    val_episodes: int
    val_steps: int
    shared: int
    note: str
    items: int = 0
    per_draw: float = 1.0
    modality: str = ""
    route: str = ""
    ess: float = 1.0
    kept: float = 1.0


def explain(share: float, target: float, cap: float, floor: float, max_epochs: float | None, shared: int) -> str:
    """Say in words what a cap, a floor or an overlap did to a source whose plain share was `share`."""
    notes: list[str] = []
    if max_epochs is not None and math.isclose(target, cap, rel_tol=1e-3) and target < share:
        notes.append(f"held at its cap of {max_epochs:g} epochs")
    if floor and math.isclose(target, floor, rel_tol=1e-6) and target > share:
        notes.append("raised to its floor")
    if not notes and abs(target - share) > 1e-4:
        notes.append("takes up what capped sources leave" if target > share else "makes room for raised sources")
    if shared:
        notes.append(f"{shared} episodes are also in another source")
    return "; ".join(notes)


def weights_note(weighted: Weighted | None) -> str:
    """Say in words what weights cost a source."""
    if weighted is None or (weighted.ess, weighted.kept) == (1.0, 1.0):
        return ""
    return f"weights: effective size {_percent(weighted.ess)}, {_percent(weighted.kept)} of the steps kept"


def unit_note(unit: str, per_draw: float) -> str:
    """Say in words how much of another unit than draws one draw is."""
    return "" if unit == "samples" else f"{per_draw:.4g} {unit} per draw"


def render_shares(shares: Sequence[SourceShare]) -> str:
    """Return the table *asked vs realised vs effective epochs* as plain text, one line per source and a total."""
    head = ["source", "asked", "target", "realised", "draws", "episodes", "steps", "epochs", "cap", "held out", "note"]
    rows = [
        [s.name, _percent(s.asked), _percent(s.target), _percent(s.realised), f"{s.draws:,}", f"{s.episodes:,}", f"{s.steps:,}",
         f"{s.epochs:.2f}", "" if s.max_epochs is None else f"{s.max_epochs:g}", f"{s.val_episodes:,}", s.note]
        for s in shares
    ]  # fmt: skip
    draws, episodes, steps = (sum(getattr(s, what) for s in shares) for what in ("draws", "episodes", "steps"))
    held = sum(s.val_episodes for s in shares)
    whole = [_percent(math.fsum(getattr(s, what) for s in shares)) for what in ("asked", "target", "realised")]
    rows.append(
        ["total", *whole, f"{draws:,}", f"{episodes:,}", f"{steps:,}", f"{draws / max(steps, 1):.2f}", "", f"{held:,}", ""]
    )
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(_line(row, widths) for row in [head, *rows])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    middle = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *middle, row[-1]]).rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
