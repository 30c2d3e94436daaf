"""Which planned units are to be done: those without a marker, those whose rows another plan has replaced, and, for repair, damaged ones.

A unit that was committed is usually done for good. Not so when its input went from one content to another and back (a source was
edited and the edit undone, an op list was put in force and taken back): the first content's unit is committed, but the newest rows of
its keys are the second's. Such a unit is done once more, under a mark of its own, so that what was planned last is what shows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import polars as pl

from catalog.append import CLOCK
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.publish import PublishedFile, is_intact
from pipelines.unit.commit import MARKER
from pipelines.unit.model import Stage, Unit
from pipelines.unit.receipt import open_receipts
from schemas.tables import TABLES

# What a reader looks rows up by, where that is how a plan's content shows. `datasets` is left out: every unit of one writes the same key.
_BY_KEY = ("episodes", "scores", "quality", "decisions", "splits", "attempts", "memories")
SHOWN_BY: Mapping[str, tuple[str, ...]] = {**{name: TABLES[name].key for name in _BY_KEY}, "mixtures": ("name",)}
_TAIL = ("unit", CLOCK)


def pending(stage: Stage) -> list[Unit]:
    """Return the units of a stage that are to be done."""
    return outstanding(stage, list(stage.plan()))


def outstanding(stage: Stage, units: Sequence[Unit], *, repair: bool = False) -> list[Unit]:
    """Return those of a stage's planned `units` that are to be done, in order.

    Args:
        stage: whose.
        units: its whole plan: a unit is only replaced by one that is not planned.
        repair: also the committed ones whose files are missing or damaged.
    """
    known = Catalog(stage.lake).committed_units(MARKER)
    done = [u.id for u in units if u.id in known]
    if not done:
        return list(units)
    again = replaced_units(stage.lake, stage.name, done) | _begun_again(stage.lake, set(done))
    broken = damaged_units(stage.lake, done) if repair else set[str]()
    return [
        replace(u, again=again[u.id]) if u.id in again else u
        for u in units
        if u.id not in known or u.id in again or u.id in broken
    ]


def replaced_units(lake: Lake, stage: str, units: Collection[str]) -> dict[str, int]:
    """Return which committed units of a plan do not show any more, and how often each has been committed.

    A unit shows while no unit of the same stage outside the plan has written other values under one of its keys later. Rows that
    another stage puts over them (a standardised view over an ingested episode) are meant to be there.
    """
    catalog = Catalog(lake)
    runs = catalog.scan(MARKER).filter(pl.col("stage") == stage).select("unit").collect()
    ours, planned = runs.unique(), pl.Series("unit", list(units), pl.String)
    if ours.height <= len(planned):  # nothing of this stage lies outside the plan
        return {}
    lost = {
        unit
        for table, key in SHOWN_BY.items()
        for unit in _hidden(catalog.scan(table), list(key), ours.lazy(), planned, TABLES[table].schema.names)
    }
    times = runs.group_by("unit").len().filter(pl.col("unit").is_in(list(lost)))
    return dict(times.iter_rows())


def damaged_units(lake: Lake, units: Sequence[str]) -> set[str]:
    """Return those of `units` that have a shard, side table or other file which is missing or no longer what was committed."""
    wanted, found = pl.Series("unit", units, pl.String), set[str]()
    for table in ("shards", "annotations", "residuals", "attempts", "memories"):
        rows = Catalog(lake).scan(table).filter(pl.col("unit").is_in(wanted.implode())).collect()
        for unit, *file in rows.select("unit", "uri", "bytes", "blake3").iter_rows():
            if not is_intact(lake, PublishedFile(*file)):
                found.add(unit)
    return found


def _begun_again(lake: Lake, units: Collection[str]) -> dict[str, int]:
    """Return the units that a killed run was doing once more: their rows may show already, but not in every table."""
    found = dict[str, int]()
    for mark in open_receipts(lake):
        unit, plus, times = mark.rpartition("+")
        if plus and unit in units and not Catalog(lake).committed(MARKER, mark):
            found[unit] = int(times)
    return found


def _hidden(rows: pl.LazyFrame, key: list[str], ours: pl.LazyFrame, planned: pl.Series, columns: list[str]) -> set[str]:
    """Return the planned units of which a row lies under a later, different one. Reads keys first: mostly nothing is found."""
    mine = pl.col("unit").is_in(planned.implode())
    narrow = rows.select(*key, *_TAIL).join(ours, on="unit", how="semi")
    newest = narrow.sort(CLOCK).group_by(key).agg(pl.col("unit").last().alias("winner"))
    under = narrow.filter(mine).join(newest, on=key).filter(~pl.col("winner").is_in(planned.implode()))
    found = under.select("unit", "winner").unique().collect()
    if found.is_empty():
        return set()
    wanted = pl.concat([found["unit"], found["winner"]]).unique()
    wide = rows.filter(pl.col("unit").is_in(wanted.implode())).join(under.select(key).unique(), on=key, how="semi")
    values = [c for c in columns if c not in _TAIL]
    shown = wide.sort(CLOCK).unique([*key, "unit"], keep="last").with_columns(said=pl.struct(values).hash()).collect()
    pairs = shown.filter(mine).join(shown.filter(~mine), on=key, suffix="_other")
    return set(pairs.filter(pl.col("said") != pl.col("said_other"))["unit"].to_list())
