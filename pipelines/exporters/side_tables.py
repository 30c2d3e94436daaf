"""Annotations that go along with an export as tables of their own: as they are, with the export's own episode numbers."""

from pathlib import Path

import polars as pl

from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.exporters.base import ExportJob
from schemas.errors import UsageError

SIDE_TABLES = "annotations"  # folder of the export


def side_table(catalog: Catalog, annotator: str, episodes: pl.DataFrame) -> pl.DataFrame:
    """Return an annotator's rows with `episode_index`, the place of each episode in `episodes`, in that order.

    Raises:
        UsageError: none of the episodes is annotated by it.
    """
    table = read_annotations(catalog, annotator, episodes)
    if table.is_empty():
        raise UsageError(f"none of the episodes is annotated by {annotator!r}; run `cotrain annotate` first")
    places = episodes.select("episode_id").with_row_index("episode_index").with_columns(pl.col("episode_index").cast(pl.Int64))
    return places.join(table.drop("dataset", "shard"), on="episode_id").sort("episode_index", "start_step", maintain_order=True)


def write_side_tables(job: ExportJob) -> list[Path]:
    """Write `annotations/<annotator>.parquet` into an export's folder for each annotator in `tables_of`; returns the files."""
    rows = pl.DataFrame({"episode_id": [e.episode_id for e in job.episodes], "dataset": [e.dataset for e in job.episodes],
                         "shard": [e.shard for e in job.episodes]})  # fmt: skip
    files: list[Path] = []
    for name in job.options.tables_of:
        files.append(job.folder / SIDE_TABLES / f"{name}.parquet")
        files[-1].parent.mkdir(exist_ok=True)
        side_table(Catalog(job.lake), name, rows).write_parquet(files[-1])
    return files
