"""Reads side tables back: for a set of episodes, the newest annotations of each shard they live in."""

import polars as pl
import pyarrow.parquet as pq

from annotators.motion.language_motion import LanguageMotion
from catalog.layers import is_layered, layered
from catalog.tables import Catalog
from schemas.annotation import LanguageRow
from schemas.errors import LakeError

_HEAD = ("dataset", "shard")


def read_annotations(catalog: Catalog, annotator: str, episodes: pl.DataFrame, fingerprint: str | None = None) -> pl.DataFrame:
    """Return one annotator's rows for `episodes`, ordered by `(dataset, shard, episode, start)`.

    Args:
        catalog: where the side tables are listed.
        annotator: its name.
        episodes: rows of the `episodes` table (at least `episode_id`, `dataset`, `shard`).
        fingerprint: read this configuration's rows; None takes, shard by shard, whatever was committed last, or where runs add up
            (`catalog.layers`) whatever was committed last of each kind.

    Returns:
        Columns `dataset`, `shard`, those of `schemas.annotation.SPAN_COLUMNS`, and the annotator's own; valid and invalid rows. No
        rows where nothing has been annotated: compare with `episodes` to find what is missing.

    Raises:
        LakeError: a side table the catalog names is missing.
    """
    listed = catalog.latest("annotations").filter(pl.col("annotator") == annotator)
    if fingerprint is not None:
        listed = listed.filter(pl.col("fingerprint") == fingerprint)
    adds_up = is_layered(annotator) and fingerprint is None
    runs = listed if adds_up else listed.sort("committed_ns", descending=True).unique(["shard"], keep="first")
    wanted = episodes.lazy().select("dataset", "shard").unique().join(runs.select("shard", "uri", "committed_ns"), on="shard")
    frames: list[pl.DataFrame] = []
    files = wanted.sort(*_HEAD, "committed_ns").collect().partition_by("dataset", "shard", maintain_order=True)
    for dataset, shard, uris in ((f["dataset"][0], f["shard"][0], f["uri"].to_list()) for f in files):
        ids = episodes.filter(pl.col("shard") == shard)["episode_id"]
        parts = [_read(catalog, uri) for uri in uris]
        rows = layered(annotator, [(shard, p.lazy()) for p in parts]).collect() if adds_up else parts[0]
        rows = rows.filter(pl.col("episode_id").is_in(ids.implode()))
        frames.append(rows.select(pl.lit(dataset).alias("dataset"), pl.lit(shard).alias("shard"), pl.all()))
    return (
        pl.concat(frames, how="diagonal_relaxed")
        if frames
        else pl.DataFrame(schema=dict.fromkeys((*_HEAD, "episode_id"), pl.String))
    )


def segment_starts(catalog: Catalog, episodes: pl.DataFrame) -> dict[str, list[int]]:
    """Return where the segments of each episode begin, in nanoseconds and in order; without those never cut into segments."""
    table = read_annotations(catalog, "segments", episodes)
    if "start_ns" not in table.columns:
        return {}
    return dict(table.filter("valid").sort("start_ns").group_by("episode_id").agg("start_ns").iter_rows())


def language_rows(catalog: Catalog, episodes: pl.DataFrame) -> dict[str, tuple[LanguageRow, ...]]:
    """Return every text annotators wrote about `episodes`, per episode id, sorted by start: what exporters put into language columns.

    Language motions, and whatever annotator's table says with each `text` which LeRobot `style` it has.
    """
    found = motion_rows(catalog, episodes)
    names = catalog.latest("annotations").select("annotator").unique().collect()["annotator"].sort().to_list()
    for name in (n for n in names if n not in (LanguageMotion.name, "near_duplicate_sketch")):
        table = read_annotations(catalog, name, episodes)
        if {"text", "style"} <= set(table.columns):
            spoken = table.filter("valid", pl.col("style").is_not_null())  # a text without a style stays in its side table
            when = pl.coalesce("at_ns", "start_ns") if "at_ns" in spoken.columns else pl.col("start_ns")
            rows = spoken.select("episode_id", "style", "text", when, "camera")
            for episode, style, text, start, camera in rows.iter_rows():
                found[episode] = (*found.get(episode, ()), LanguageRow(style, text, start, camera))
    return {episode: tuple(sorted(rows, key=lambda r: r.start_ns)) for episode, rows in found.items()}


def motion_rows(catalog: Catalog, episodes: pl.DataFrame, fingerprint: str | None = None) -> dict[str, tuple[LanguageRow, ...]]:
    """Return the language motions of `episodes` for exporters, per episode id, sorted by start; equal neighbours are one row.

    A text holds until the next one. Steps without a valid motion (the end of an episode, say) have no row of their own, so readers
    see the last text there; the side table tells the difference. Episodes without any valid motion are left out.
    """
    table = read_annotations(catalog, LanguageMotion.name, episodes, fingerprint)
    if "text" not in table.columns:
        return {}
    rows: dict[str, list[LanguageRow]] = {}
    for episode, text, start in table.filter("valid").select("episode_id", "text", "start_ns").iter_rows():
        kept = rows.setdefault(episode, [])
        if not kept or kept[-1].text != text:
            kept.append(LanguageRow("motion", text, start))
    return {episode: tuple(kept) for episode, kept in rows.items()}


def _read(catalog: Catalog, uri: str) -> pl.DataFrame:
    path = catalog.lake.path(uri)
    try:
        with catalog.lake.fs.open(path, "rb") as file:
            table = pq.read_table(file)
    except FileNotFoundError as error:
        raise LakeError(
            f"{path} is missing although the catalog names it; annotate again after removing its row, or restore it"
        ) from error
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))
