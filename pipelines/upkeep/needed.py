"""Which files of a lake something rests on: what the catalog shows now, and what live mixtures pinned."""

import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog, current_shards
from pipelines.publish import PublishedFile
from pipelines.upkeep.pins import LiveMixture, live_mixtures
from schemas.shards import VIEW_MARK

_FILE = ("uri", "bytes", "blake3")
_ALWAYS = ("residuals", "attempts", "memories")  # dear, or the only copy


def needed_files(lake: Lake, *, keep_mixtures: int | None = None) -> list[PublishedFile]:
    """Return every registered file that a current row or a live mixture rests on, in path order.

    Of an annotator's side tables for one shard that is the newest, which readers take, and the newest at each mixture's pin: other
    configurations' are needed by nobody who did not name them. Residual caches, attempt trees and memories are always needed.

    Args:
        lake: which.
        keep_mixtures: count only the newest so many versions of each mixture, and exported ones, as alive.
    """
    catalog = Catalog(lake)
    shown = current_shards(catalog.latest("episodes")).select("shard").collect()
    needs = [_of(catalog, shown, None), *(catalog.latest(table).select(_FILE).collect() for table in _ALWAYS)]
    for mixture in live_mixtures(lake, keep=keep_mixtures):
        needs += _pinned(catalog, mixture)
    rows = pl.concat(needs).unique(maintain_order=False).sort("uri")
    return [PublishedFile(*row) for row in rows.iter_rows()]


def registered_files(lake: Lake) -> list[PublishedFile]:
    """Return every shard file and side table that a row has ever named, as its newest row describes it."""
    tables = [Catalog(lake).latest(table).select(_FILE) for table in ("shards", "annotations")]
    return [PublishedFile(*row) for row in pl.concat(tables).unique("uri", keep="last").sort("uri").collect().iter_rows()]


def _pinned(catalog: Catalog, mixture: LiveMixture) -> list[pl.DataFrame]:
    shards = mixture.index(catalog.lake).select("shard").unique()
    versions = sorted({v for pins in mixture.pins if (v := pins.get("annotations")) is not None})
    return [_of(catalog, shards, version) for version in (versions or [None])]


def _of(catalog: Catalog, shown: pl.DataFrame, version: int | None) -> pl.DataFrame:
    """Return the files of shards by the names they show under; side tables belong to what is shown, files to what is stored."""
    stored = shown.select(pl.col("shard").str.split(VIEW_MARK).list.first()).unique()
    files = catalog.latest("shards").collect().join(stored, on="shard", how="semi")
    tables = catalog.latest("annotations", version).collect().join(shown, on="shard", how="semi")
    newest = tables.sort("committed_ns").unique(["annotator", "shard"], keep="last")
    return pl.concat([frame.select(_FILE) for frame in (files, newest)])
