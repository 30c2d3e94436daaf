"""`cotrain ls`: what a lake holds."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "ls"


def command(
    what: Annotated[
        str, typer.Argument(help="datasets, episodes, annotations, mixtures, exports, quarantine or runs.")
    ] = "datasets",
    lake: LakeOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many rows.")] = 50,
    as_json: JsonOption = False,
) -> int:
    """List what the lake holds."""
    from catalog.lake import Lake
    from catalog.tables import Catalog
    from pipelines.terminal.console import Console
    from schemas.errors import UnknownNameError

    if what not in LISTINGS:
        raise UnknownNameError(f"there is nothing called {what!r} to list; choose from {', '.join(LISTINGS)}")
    console = Console(as_json)
    frame = LISTINGS[what](Catalog(Lake.at(lake)))
    console.table(frame.columns, frame.head(limit).iter_rows())
    hidden = f", {frame.height - limit} more with --limit" if frame.height > limit else ""
    console.text(f"{frame.height} {what}{hidden}")
    console.result({"command": NAME, "what": what, "columns": frame.columns, "rows": frame.head(limit).rows()})
    return 0


def _datasets(catalog: Any) -> Any:
    import polars as pl

    totals = catalog.latest("episodes").group_by("dataset").agg(
        pl.len().alias("episodes"), pl.col("steps").sum(), (pl.col("duration_s").sum() / 60).alias("minutes"),
        (pl.col("bytes").sum() / 1e6).alias("MB"),
    )  # fmt: skip
    known = catalog.latest("datasets").select("dataset", "kind", "embodiment", "adapter", "licence", "uri")
    columns = ["dataset", "kind", "embodiment", "episodes", "steps", "minutes", "MB", "adapter", "licence", "uri"]
    return known.join(totals, on="dataset", how="left").select(columns).sort("dataset").collect()


def _episodes(catalog: Any) -> Any:
    columns = ["episode_id", "dataset", "source", "key", "steps", "duration_s", "cameras", "task", "success"]
    return catalog.latest("episodes").select(columns).sort("dataset", "key").collect()


def _annotations(catalog: Any) -> Any:
    import polars as pl

    shown = pl.col("fingerprint").str.slice(0, 12)
    columns = ["annotator", shown, "dataset", "shard", "episodes", "rows", "valid_rows", "coverage"]
    return catalog.latest("annotations").select(columns).sort("annotator", "dataset").collect()


def _mixtures(catalog: Any) -> Any:
    columns = ["name", "hash", "samples", "episodes", "uri"]
    return catalog.latest("mixtures").select(columns).sort("name").collect()


def _exports(catalog: Any) -> Any:
    columns = ["uri", "format", "mixture", "episodes", "rows", "bytes", "verified"]
    return catalog.latest("publications").select(columns).sort("uri").collect()


def _quarantine(catalog: Any) -> Any:
    """Rejects whose episode has not been ingested since."""
    import polars as pl

    healed = catalog.latest("episodes").select("dataset", "key", pl.col("committed_ns").alias("healed_ns"))
    rows = catalog.latest("quarantine").join(healed, on=["dataset", "key"], how="left")
    open_rows = rows.filter(pl.col("healed_ns").is_null() | (pl.col("healed_ns") < pl.col("committed_ns")))
    return (
        open_rows.select("stage", "dataset", pl.col("key").str.split("/").list.last(), "error", "message")
        .sort("stage", "dataset", "key")
        .collect()
    )


def _runs(catalog: Any) -> Any:
    columns = ["run", "stage", "dataset", "unit", "seconds", "cpu_seconds", "rows", "frames", "bytes", "rejects", "peak_rss_mb"]
    return catalog.latest("runs").sort("committed_ns", descending=True).select(columns).collect()


LISTINGS: dict[str, Callable[[Any], Any]] = {
    "datasets": _datasets,
    "episodes": _episodes,
    "annotations": _annotations,
    "mixtures": _mixtures,
    "exports": _exports,
    "quarantine": _quarantine,
    "runs": _runs,
}
