"""Reads back what was mined for a selection: pairs of both kinds, and how many candidates each filter refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from annotators.triplets.triplets import Triplets
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.triplets.counterfactuals import NAME
from schemas.ids import short_id

PLACED = ("positive", "arm_only", "goal")  # labels of rows that are no negatives


@dataclass(frozen=True, slots=True)
class Mined:
    """Everything mined for some episodes of one dataset.

    Attributes:
        rows: valid rows with a label, in the order of their tables, with `id`, the pair's own, and `of`, that of a negative's positive.
        refused: candidates by filter and reason.
    """

    rows: pl.DataFrame
    refused: pl.DataFrame


def gather(lake: Lake, annotator: Triplets, dataset: str, episodes: pl.DataFrame) -> Mined:
    """Return what `annotator` and the counterfactual stage said about a dataset.

    Args:
        lake: where the side tables are.
        annotator: whose.
        dataset: whose pairs.
        episodes: rows of `episodes` that may be shown, of any dataset; pairs with another one are left out.
    """
    catalog, print_of = Catalog(lake), annotator.fingerprint()
    own = episodes.filter(pl.col("dataset") == dataset)
    tables = [read_annotations(catalog, name, own, print_of) for name in (annotator.name, NAME)]
    rows = (
        pl.concat([t for t in tables if "label" in t.columns], how="diagonal_relaxed")
        if any("label" in t.columns for t in tables)
        else None
    )
    if rows is None:
        empty = pl.DataFrame(schema={"id": pl.String, "label": pl.String})
        return Mined(empty, pl.DataFrame(schema={"filter": pl.String, "reason": pl.String, "candidates": pl.Int64}))
    refused = (
        rows.filter(~pl.col("valid"))
        .group_by("filter", "reason")
        .agg(pl.len().cast(pl.Int64).alias("candidates"))
        .sort("filter", "reason")
    )
    rows = rows.with_columns(
        source_episode=pl.coalesce("source_episode", "episode_id"), target_episode=pl.coalesce("target_episode", "episode_id")
    )
    known = episodes["episode_id"].to_list()
    here = pl.col("source_episode").is_in(known) & pl.col("target_episode").is_in(known)
    placed = _named(rows.filter(pl.col("valid"), pl.col("label").is_not_null(), here))
    return Mined(placed, refused)


def _named(rows: pl.DataFrame) -> pl.DataFrame:
    """Give every row its id and every negative that of the positive with its span: the same prompt it changed, or its pictures."""
    ids, of = list[str](), list[str | None]()
    latest: dict[tuple[Any, ...], str] = {}
    ordered = list(rows.iter_rows(named=True))
    for row in ordered:
        name = short_id(
            "pair",
            [
                row[k]
                for k in ("source_episode", "source_ns", "target_episode", "target_ns", "camera", "prompt", "label", "candidate")
            ],
        )
        ids.append(name)
        if row["label"] in PLACED:
            latest[_key(row)] = name
    for row in ordered:
        of.append(None if row["label"] in PLACED else latest.get(_key(row)))
    return rows.with_columns(id=pl.Series(ids, dtype=pl.String), of=pl.Series(of, dtype=pl.String))


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a positive and its negatives share."""
    return tuple(row[k] for k in ("episode_id", "camera", "start_step", "end_step", "candidate", "factor", "phase"))
