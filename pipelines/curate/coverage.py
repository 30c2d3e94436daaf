"""What a curation keeps of each task, scene and embodiment, and where it loses too much."""

from dataclasses import dataclass

import polars as pl

from schemas.curation import CoverageSpec
from transforms.coverage import entropy

DUPLICATE = "duplicates"  # the gate that drops copies


@dataclass(frozen=True, slots=True)
class Kept:
    """How many episodes of one group stay."""

    column: str
    group: str
    episodes: int
    kept: int

    @property
    def share(self) -> float:
        """Share that stays."""
        return self.kept / self.episodes


@dataclass(frozen=True, slots=True)
class Coverage:
    """Retention per group; how far the entropy of each guarded column falls, in nats; and what breaks the guards, in words."""

    groups: tuple[Kept, ...]
    entropy_drop: dict[str, float]
    violations: tuple[str, ...]


def coverage(rows: pl.DataFrame, spec: CoverageSpec) -> Coverage:
    """Measure what `rows` (with `keep`, `gate` and the guarded columns) keep; null is a group of its own.

    Copies that were dropped for another episode are left out: what they show is still there.
    """
    rows = rows.filter(pl.col("gate").is_null() | (pl.col("gate") != DUPLICATE))
    groups: list[Kept] = []
    drops: dict[str, float] = {}
    broken: list[str] = []
    if rows.height and not bool(rows["keep"].any()):
        broken.append(f"nothing is kept of {rows.height} episodes")
    for column in spec.by:
        counted = rows.group_by(column).agg(pl.len().alias("n"), pl.col("keep").sum().alias("kept")).sort(column)
        own = [
            Kept(column, "none" if g is None else str(g), n, k)
            for g, n, k in counted.filter(pl.col("n") >= spec.least).iter_rows()
        ]
        few = counted.filter(pl.col("n") < spec.least)
        if few.height:
            own.append(Kept(column, f"{few.height} groups under {spec.least}", int(few["n"].sum()), int(few["kept"].sum())))
        drops[column] = entropy([k.episodes for k in own]) - entropy([k.kept for k in own])
        groups += own
        broken += [
            f"{column} {k.group!r} keeps {k.kept} of {k.episodes} episodes, less than {spec.retention:.0%}"
            for k in own
            if k.episodes >= spec.least and k.share < spec.retention
        ]
        if drops[column] > spec.entropy_drop:
            broken.append(f"the entropy of {column} falls by {drops[column]:.3f} nat, more than {spec.entropy_drop:g}")
    return Coverage(tuple(groups), drops, tuple(broken))
