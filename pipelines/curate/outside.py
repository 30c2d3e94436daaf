"""Scores that others computed (influence, value models, human ratings): checked, then stored beside ours.

A table (Parquet or CSV) with `episode_id` or `dataset` and `key`; `value`; and optionally `start_ns`, `end_ns`, `se`, `detail`. Method
and fingerprint are columns or given once for the whole table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from blake3 import blake3
from polars.exceptions import PolarsError

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.curate.scores import PREFIX
from pipelines.unit import Output, Reject, Unit
from schemas.errors import MalformedSourceError, MissingFileError
from schemas.ids import unit_id

CODE = "1"
OPTIONAL = {"start_ns": pl.Int64, "end_ns": pl.Int64, "se": pl.Float64, "detail": pl.String}


@dataclass(frozen=True, slots=True)
class ImportStage:
    """Store a table of outside scores: one unit, named by the file's bytes.

    Attributes:
        lake: where the episodes are.
        path: the table.
        method: name of the score, where the table has no column `method`.
        fingerprint: which model and data made it, where the table has no column `fingerprint`.
    """

    lake: Lake
    path: str
    method: str = ""
    fingerprint: str = ""
    name: str = "import-scores"

    def plan(self) -> Sequence[Unit]:
        """One unit.

        Raises:
            MissingFileError: there is no such file.
        """
        try:
            content = blake3(Path(self.path).read_bytes()).hexdigest()
        except OSError as error:
            raise MissingFileError(f"the table of scores cannot be read: {error.strerror}", uri=self.path) from error
        name = unit_id(self.name, [content, Catalog(self.lake).version("episodes")], [self.method, self.fingerprint], CODE)
        return [Unit(name, self.name, "", f"scores of {Path(self.path).name}", None)]

    def work(self, unit: Unit) -> Output:  # noqa: ARG002
        """Check every row; those that name no episode, or hold no number, become rejects."""
        rows = self._named(read_table(self.path))
        known = Catalog(self.lake).latest("episodes").select("episode_id", "dataset", "key", "duration_s").collect()
        on = ["episode_id"] if "episode_id" in rows.columns else ["dataset", "key"]
        whole = rows.join(known, on=on, how="left", maintain_order="left", suffix="_known", coalesce=True)
        bad_value = ~pl.col("value").is_finite().fill_null(value=False)
        bad_error = (pl.col("se") < 0).fill_null(value=False) | pl.col("se").is_nan().fill_null(value=False)
        unknown = pl.col("duration_s").is_null()
        rejects = [
            *_rejects(whole.filter(unknown), on, self.path, "names no episode of this lake"),
            *_rejects(whole.filter(~unknown & bad_value), on, self.path, "has no finite value"),
            *_rejects(whole.filter(~unknown & ~bad_value & bad_error), on, self.path, "has a standard error that is none"),
        ]
        good = whole.filter(~unknown & ~bad_value & ~bad_error).with_columns(
            end_ns=pl.coalesce("end_ns", (pl.col("duration_s") * 1e9).cast(pl.Int64))
        )
        keys = ["method", "fingerprint", "episode_id", "start_ns"]
        if good.select(keys).is_duplicated().any():
            twice = good.filter(good.select(keys).is_duplicated()).row(0, named=True)
            raise MalformedSourceError(
                f"two rows score {twice['episode_id']} by {twice['method']} at {twice['start_ns']} ns", uri=self.path
            )
        table = good.select(*keys, "end_ns", "value", "se", "detail").to_arrow()
        return Output((), {"scores": pa.table(table)} if good.height else {}, tuple(rejects), good.height)

    def _named(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add what is given for the whole table, and the optional columns that are absent."""
        for column, given in (("method", self.method), ("fingerprint", self.fingerprint)):
            if given:
                rows = rows.with_columns(pl.lit(given).alias(column))
            elif column not in rows.columns:
                raise MalformedSourceError(f"the table has no column {column!r}; add it, or give --{column}", uri=self.path)
        if "value" not in rows.columns:
            raise MalformedSourceError(f"the table has no column 'value'; it has {', '.join(rows.columns)}", uri=self.path)
        if not ("episode_id" in rows.columns or {"dataset", "key"} <= set(rows.columns)):
            raise MalformedSourceError(
                "the table names no episodes; it needs a column 'episode_id', or 'dataset' and 'key'", uri=self.path
            )
        if ours := [m for m in rows["method"].unique().to_list() if m is None or str(m).startswith((PREFIX, "lint."))]:
            raise MalformedSourceError(
                f"the method {ours[0]!r} is one of cotrain's own or empty; give it another name", uri=self.path
            )
        absent = [pl.lit(None, kind).alias(name) for name, kind in OPTIONAL.items() if name not in rows.columns]
        rows = rows.with_columns(*absent)
        try:
            casts = [pl.col(n).cast(k) for n, k in OPTIONAL.items()]
            rows = rows.with_columns(*casts, pl.col("value").cast(pl.Float64), pl.col("fingerprint").cast(pl.String))
        except PolarsError as error:
            raise MalformedSourceError(f"a column has the wrong type: {error}", uri=self.path) from error
        return rows.with_columns(pl.col("start_ns").fill_null(0))


def read_table(path: str) -> pl.DataFrame:
    """Read a Parquet or CSV table.

    Raises:
        MalformedSourceError: it is neither.
    """
    try:
        return pl.read_csv(path) if path.endswith(".csv") else pl.read_parquet(path)
    except (PolarsError, OSError) as error:
        raise MalformedSourceError(f"this is no Parquet or CSV table: {error}", uri=path) from error


def _rejects(rows: pl.DataFrame, on: list[str], uri: str, why: str) -> list[Reject]:
    return [
        Reject("/".join(map(str, key)), uri, "MalformedSourceError", f"the row of {key} {why}")
        for key in rows.select(on).iter_rows()
    ]
