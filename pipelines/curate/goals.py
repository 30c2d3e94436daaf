"""Goal states as factors (ARNOLD): what an episode ended at, as the annotator `text` measured it, is one more column of episodes."""

import json
from collections.abc import Sequence

import polars as pl

from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from schemas.errors import UsageError

PREFIX = "goal."  # `goal.<object>.<state>`, for example `goal.red cup.height_m`, metres


def with_goals(catalog: Catalog, episodes: pl.DataFrame, factors: Sequence[str]) -> pl.DataFrame:
    """Return `episodes` with a float64 column per factor that is a goal; null where an episode ended without one.

    Raises:
        UsageError: no chosen episode reached such a goal.
    """
    wanted = dict.fromkeys(f for f in factors if f.startswith(PREFIX))
    if not wanted:
        return episodes
    table = read_annotations(catalog, "text", episodes)
    known = _reached(table) if "goal_value" in table.columns else {}
    for name in wanted:
        if name not in known:
            has = ", ".join(sorted(known)) or "none: run `cotrain annotate --with text` first"
            raise UsageError(f"factor {name}: no chosen episode reached such a goal; there are {has}")
        column = [known[name].get(e) for e in episodes["episode_id"]]
        episodes = episodes.with_columns(pl.Series(name, column, pl.Float64))
    return episodes


def _reached(table: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return the value per episode of every goal that was reached."""
    rows = table.filter(pl.col("kind") == "goal", "valid", pl.col("answer") == "reached")
    found: dict[str, dict[str, float]] = {}
    for episode, slots, value in rows.select("episode_id", "slots", "goal_value").iter_rows():
        about = json.loads(slots)
        found.setdefault(f"{PREFIX}{about['object']}.{about['state']}", {})[episode] = float(value)
    return found
