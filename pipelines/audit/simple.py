"""Audits that count: how evenly episodes cover tasks, scenes and robots, how often actions sit at their limits, what splits share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.audit.ledger import Finding
from pipelines.curate.coverage import Coverage, coverage
from pipelines.fit.frames import gather
from schemas.curation import CoverageSpec
from transforms.coverage import entropy

FIELDS = {"task": "task", "scene": "split_group", "embodiment": "embodiment"}
AT_LIMIT = 0.999
MOST_SATURATED = 0.05


@dataclass(frozen=True, slots=True)
class CoverageAudit:
    """Compares a selection with everything its datasets hold.

    Attributes:
        most_drop: largest loss of entropy, in nats, that passes.
        least_kept: smallest share of the episodes of any task, scene or embodiment that passes.
    """

    most_drop: float = 0.1
    least_kept: float = 0.5

    def run(self, lake: Lake, episodes: pl.DataFrame) -> tuple[list[Finding], None]:
        """Report the entropy of each field, and the field's value that lost most."""
        everything = Catalog(lake).latest("episodes").filter(pl.col("dataset").is_in(episodes["dataset"].unique().implode()))
        kept = pl.col("episode_id").is_in(episodes["episode_id"].implode())
        rows = everything.with_columns(kept.alias("keep"), pl.lit(None, pl.String).alias("gate")).collect()
        found = coverage(rows, CoverageSpec(self.least_kept, self.most_drop, tuple(FIELDS.values()), least=1))
        return [self._finding(name, column, found, episodes.height) for name, column in FIELDS.items()], None

    def _finding(self, name: str, column: str, found: Coverage, chosen: int) -> Finding:
        groups = [g for g in found.groups if g.column == column]
        worst, after = min(groups, key=lambda g: g.share), entropy([g.kept for g in groups])
        before, ok = after + found.entropy_drop[column], worst.share >= self.least_kept
        text = (
            f"{name}: entropy {after:.2f} of {before:.2f} nats over {len(groups)} values; "
            f"{worst.group!r} keeps {worst.share:.0%} of its {worst.episodes} episodes"
        )
        detail = {"values": len(groups), "entropy_of_all": before, "least_kept": worst.share}
        ok &= found.entropy_drop[column] <= self.most_drop
        return Finding(f"coverage_{name}", after, None, chosen, "ok" if ok else "warn", text, detail)


@dataclass(frozen=True, slots=True)
class SaturationAudit:
    """Looks for actions that sit at the extremes of their own range.

    Attributes:
        most: share of steps at a limit above which it warns.
    """

    most: float = MOST_SATURATED

    def run(self, lake: Lake, episodes: pl.DataFrame) -> tuple[list[Finding], None]:
        """Report per action space the share of steps at which a dimension that is not two-valued sits at its limit."""
        found = list[Finding]()
        for frames in gather(lake, episodes):
            limit = np.abs(frames.action).max(axis=0)
            graded = np.array([len(np.unique(column[:4096])) > 3 for column in frames.action.T])
            at = (np.abs(frames.action) >= AT_LIMIT * limit) & graded & (limit > 0)
            share = float(at.any(axis=1).mean())
            per = {str(i): float(x) for i, x in enumerate(at.mean(axis=0)) if x > 0}
            text = f"{frames.scope}: {share:.1%} of {len(at):,} steps have an action at its limit"
            verdict = "ok" if share <= self.most else "warn"
            found.append(
                Finding(f"saturation:{frames.scope}", share, None, frames.episodes.height, verdict, text, {"dimensions": per})
            )
        return found, None


@dataclass(frozen=True, slots=True)
class LeakageAudit:
    """Holds the splits of a mixture against each other."""

    def run_splits(self, lake: Lake, episodes: pl.DataFrame, split: Sequence[str]) -> tuple[list[Finding], None]:
        """Count what occurs in more than one split: split groups, identical contents, and pairs of known near-duplicates.

        Args:
            lake: where duplicates are listed.
            episodes: rows of the catalog's table.
            split: the split of each of them.
        """
        labelled = episodes.with_columns(pl.Series("split", split))
        found = [_shared(labelled, "split_group", "split groups"), _shared(labelled, "content_hash", "identical recordings")]
        sides = labelled.select("episode_id", "split")
        pairs = (
            Catalog(lake).latest("duplicates").collect()
            .join(sides, on="episode_id").join(sides, left_on="other_id", right_on="episode_id", suffix="_other")
        )  # fmt: skip
        crossing = pairs.filter(pl.col("split") != pl.col("split_other"))
        text = f"{crossing.height} of {pairs.height} known duplicate pairs lie in two splits"
        found.append(Finding("leakage_duplicates", crossing.height, None, labelled.height, _clean(crossing.height), text))
        return found, None


def _shared(labelled: pl.DataFrame, column: str, words: str) -> Finding:
    sides = labelled.filter(pl.col(column).is_not_null()).group_by(column).agg(pl.col("split").n_unique())
    both = sides.filter(pl.col("split") > 1).height
    return Finding(
        f"leakage_{column}", both, None, labelled.height, _clean(both), f"{both} of {sides.height} {words} lie in two splits"
    )


def _clean(count: int) -> str:
    return "fail" if count else "ok"
