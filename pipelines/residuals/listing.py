"""Which caches a lake holds, and why one of them does not fit."""

import json
from typing import Any

import polars as pl

from catalog.tables import Catalog
from pipelines.residuals.keys import differences

COLUMNS = (
    "teacher",
    "cache_key",
    "mode",
    "datasets",
    "episodes",
    "rows",
    "bytes",
    "bytes_per_row",
    "staleness",
    "snr_db",
    "made",
)


def list_caches(catalog: Catalog) -> pl.DataFrame:
    """Return one row per cache: what it covers, how large it is, and what its last audit found."""
    rows = catalog.latest("residuals").collect()
    groups = rows.group_by("teacher", "cache_key", "mode").agg(
        pl.col("dataset").unique().sort().str.join(", ").alias("datasets"), pl.col("episodes").explode().n_unique().alias("episodes"),
        pl.col("rows").sum(), pl.col("bytes").sum(), pl.col("staleness").max(), pl.col("config").last(),
        pl.from_epoch(pl.col("committed_ns").max(), time_unit="ns").dt.strftime("%Y-%m-%d %H:%M").alias("made"),
    )  # fmt: skip
    ratios = [json.loads(c).get("snr_db") for c in groups["config"]]
    shown = groups.with_columns(
        snr_db=pl.Series("snr_db", ratios, pl.Float64), bytes_per_row=(pl.col("bytes") / pl.col("rows")).round(1)
    )
    return shown.sort("teacher", "made").select(COLUMNS)


def why_missed(catalog: Catalog, teacher: str, parts: dict[str, Any]) -> list[str]:
    """Name what distinguishes the present configuration from the nearest cache of the same teacher; empty: there is none."""
    rows = catalog.latest("residuals").filter(pl.col("teacher") == teacher).unique("cache_key").collect()
    found = [differences(parts, _parts(text)) for text in rows["config"].drop_nulls()]
    return min(found, key=len) if found else []


def _parts(text: str) -> dict[str, Any]:
    return {k: v for k, v in json.loads(text).items() if k != "snr_db"}
