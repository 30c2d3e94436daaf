"""Side tables whose runs add up: of an annotator that writes several kinds of rows, the newest run of each kind counts."""

from collections.abc import Sequence

import polars as pl

from schemas.annotation import LAYERS

_SHARD, _RUN = "__shard", "__run"


def is_layered(annotator: str) -> bool:
    """Tell whether runs of an annotator add up; else the newest run of a shard hides those before it."""
    return annotator in LAYERS


def layered(annotator: str, runs: Sequence[tuple[str, pl.LazyFrame]]) -> pl.LazyFrame:
    """Return the rows that count.

    Args:
        annotator: its name, one of `LAYERS`.
        runs: `(shard, rows)`, oldest first; what a run wrote about a kind, if only that there is nothing, hides what earlier ones did.
    """
    kind = pl.col(LAYERS[annotator]).cast(pl.String).str.split("_").list.first()  # `plan_step` belongs to `plan`
    named = [rows.with_columns(pl.lit(shard).alias(_SHARD), pl.lit(at).alias(_RUN)) for at, (shard, rows) in enumerate(runs)]
    whole = pl.concat(named, how="diagonal_relaxed")
    return whole.filter(pl.col(_RUN) == pl.col(_RUN).max().over(pl.col(_SHARD), kind)).drop(_SHARD, _RUN)
