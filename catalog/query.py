"""Questions to the catalog: SQL over every table, and the one way in which all stages choose episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from catalog.layers import is_layered, layered
from catalog.tables import Catalog, current_shards
from schemas.errors import UsageError
from schemas.ids import is_slug
from schemas.shards import VIEW_MARK
from schemas.tables import TABLES

MIXTURE_INDEX = "mixture_index"
INDEX_COLUMNS = {
    "name": pl.String, "hash": pl.String, "source": pl.String, "split": pl.String, "episode_id": pl.String, "dataset": pl.String,
    "shard": pl.String, "first_row": pl.Int64, "steps": pl.Int64,
}  # fmt: skip
ORDER = ("dataset", "shard", "first_row")
LEFT_OUT = (pl.col("steps") == 0) & pl.col("shard").str.contains(VIEW_MARK, literal=True)  # by the dataset's standardisation


@dataclass(frozen=True, slots=True)
class Query:
    """SQL over one catalog. Every table shows its latest rows; `<table>_history` shows every row ever committed.

    An annotator's rows are a table under its name (`language_motion`): the newest fingerprint's rows of every current
    shard, or of every kind where runs add up (`catalog.layers`).
    `mixture_index` says which episodes every mixture holds.
    `pins` maps a table to the Delta version to read, as a mixture's manifest stores it.
    """

    catalog: Catalog
    pins: dict[str, int | None] | None = None

    def sql(self, text: str) -> pl.DataFrame:
        """Run one SELECT (polars SQL).

        Raises:
            UsageError: the statement does not parse, or names an unknown table or column.
        """
        context = pl.SQLContext(self._frames(text))
        try:
            return context.execute(text).collect()
        except PolarsError as error:
            tables = ", ".join(TABLES)
            raise UsageError(f"the query failed: {error}. Tables: {tables}; each also as <table>_history") from error

    def _frames(self, text: str) -> dict[str, pl.LazyFrame]:
        """Open only the tables the statement mentions: opening a Delta table reads its log."""
        pins, frames = self.pins or {}, dict[str, pl.LazyFrame]()
        for name in TABLES:
            if f"{name}_history" in text:
                frames[f"{name}_history"] = self.catalog.scan(name, pins.get(name))
            if name in text:
                frames[name] = self.catalog.latest(name, pins.get(name))
        if MIXTURE_INDEX in text:
            frames[MIXTURE_INDEX] = self._mixture_index()
        return frames | self._annotations(text)

    def _mixture_index(self) -> pl.LazyFrame:
        """Every row of every mixture's index that is there, under the mixture's name and hash: which episodes it holds, and where."""
        lake, parts = self.catalog.lake, list[pl.DataFrame]()
        for name, digest, uri in self.catalog.latest("mixtures").select("name", "hash", "uri").collect().iter_rows():
            try:
                with lake.fs.open(lake.path(uri, "index.arrow"), "rb") as file:
                    rows = pl.DataFrame(pa.ipc.open_file(file).read_all())
            except FileNotFoundError:
                continue  # garbage collected: `pipelines.upkeep.gc`
            named = rows.with_columns(
                pl.lit(name).alias("name"), pl.lit(digest).alias("hash"), pl.col(pl.Categorical).cast(pl.String)
            )
            parts.append(named.select(*INDEX_COLUMNS))
        return pl.concat(parts).lazy() if parts else pl.LazyFrame(schema=INDEX_COLUMNS)

    def _annotations(self, text: str) -> dict[str, pl.LazyFrame]:
        pins, lake = self.pins or {}, self.catalog.lake
        known = self.catalog.latest("annotations", pins.get("annotations")).collect()
        asked = {
            name: table for name in known["annotator"].unique() if (table := name.replace("-", "_").replace(".", "_")) in text
        }
        if not asked:
            return {}
        shards = current_shards(self.catalog.latest("episodes", pins.get("episodes"))).select("shard").collect()
        runs = known.sort("committed_ns").join(shards, on="shard", how="semi", maintain_order="left")
        newest = runs.unique(["annotator", "shard"], keep="last")
        frames, options = dict[str, pl.LazyFrame](), lake.storage_options or None
        for name, table in asked.items():
            own = (runs if is_layered(name) else newest).filter(pl.col("annotator") == name)
            if own.is_empty():
                continue
            if is_layered(name):
                parts = own.select("shard", "uri").iter_rows()
                rows = layered(name, [(s, pl.scan_parquet(lake.path(u), storage_options=options)) for s, u in parts])
            else:
                rows = pl.scan_parquet([lake.path(u) for u in own["uri"]], storage_options=options)
            frames[table] = rows.with_columns(pl.col(pl.Categorical).cast(pl.String))  # as in the catalog, so that they join
        return frames


def select_episodes(
    catalog: Catalog,
    selector: str = "all",
    pins: dict[str, int | None] | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Choose episodes; rows of the `episodes` table ordered by `(dataset, shard, first_row)`.

    Args:
        catalog: where to look.
        selector: `all`, the name of a dataset, a condition (`source = 'sim' AND success`), or a SELECT that returns `episode_id`.
        pins: table versions to read instead of the newest.
        columns: of the table; None: all. Of a million episodes, all are some gigabytes.

    Raises:
        UsageError: the selector does not parse or chooses nothing.
    """
    query, known = Query(catalog, pins), catalog.latest("episodes", (pins or {}).get("episodes")).filter(~LEFT_OUT)
    text = selector.strip()
    if columns is not None:
        known = known.select(list(dict.fromkeys((*columns, "episode_id", *ORDER))))
    if text == "all":
        chosen = known.collect()
    elif is_slug(text):
        chosen = known.filter(pl.col("dataset") == text).collect()
    else:
        # The user's own condition over the user's own catalog, which polars can only read: nothing to inject into.
        whole = text.upper().startswith(("SELECT", "WITH"))
        statement = text if whole else f"SELECT episode_id FROM episodes WHERE {text}"  # noqa: S608
        ids = query.sql(statement)
        if "episode_id" not in ids.columns:
            raise UsageError(f"{text!r} returns {ids.columns}; a selection must return the column episode_id")
        chosen = known.collect().join(ids.select("episode_id").unique(), on="episode_id", how="semi")
    if chosen.is_empty():
        have = known.group_by("dataset").len().sort("dataset").collect()
        names = ", ".join(f"{d} ({n})" for d, n in have.iter_rows()) or "none: ingest something first"
        raise UsageError(f"{selector!r} chooses no episode. Datasets and their episodes: {names}")
    return chosen.sort(ORDER)
