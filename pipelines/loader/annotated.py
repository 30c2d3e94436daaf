"""What annotators said about a step, joined to its sample: the valid span that covers it, the latest to begin where several do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.loader.fields import Field
from schemas.annotation import SPAN_COLUMNS
from schemas.errors import UsageError

PREFIX = "annotation."
_COMMON = {"dataset", "shard", *(f.name for f in SPAN_COLUMNS)}


@dataclass(frozen=True, slots=True)
class Spans:
    """The valid rows of one annotator (and camera), by episode and start.

    Attributes:
        rows: per episode id, its rows `[first, stop)`.
        steps: first step and first step after each span, int64[n, 2].
        values: per key of a sample, an array [n, ...] or a list of texts.
    """

    rows: dict[str, tuple[int, int]]
    steps: npt.NDArray[np.int64]
    values: dict[str, npt.NDArray[Any] | list[str]]

    def at(self, episode: str, step: int) -> int | None:
        """Return the row that covers a step of an episode; None: no valid one does."""
        first, stop = self.rows.get(episode, (0, 0))
        covering = np.flatnonzero((self.steps[first:stop, 0] <= step) & (step < self.steps[first:stop, 1]))
        return first + int(covering[-1]) if len(covering) else None


@dataclass(frozen=True, slots=True)
class Annotated:
    """Annotations of many episodes, ready to be joined: `annotation.<annotator>[.<camera>].<column>`."""

    spans: tuple[Spans, ...] = ()
    fields: tuple[Field, ...] = field(default=())

    def of(self, episode: str, step: int) -> dict[str, Any]:
        """Return what is known of a step; keys of which nothing is known are absent."""
        found: dict[str, Any] = {}
        for spans in self.spans:
            row = spans.at(episode, step)
            if row is not None:
                found |= {k: v[row] if isinstance(v, list) else np.asarray(v[row]) for k, v in spans.values.items()}
        return found


def join_annotations(catalog: Catalog, episodes: pl.DataFrame, wanted: Sequence[str]) -> Annotated:
    """Return the annotations of `episodes`.

    Args:
        catalog: lists the side tables.
        episodes: `episode_id`, `dataset` and `shard`.
        wanted: annotators as `NAME` or `NAME@FINGERPRINT`; without one, shard by shard what was committed last.

    Raises:
        UsageError: an annotator has said nothing about these episodes.
    """
    spans: list[Spans] = []
    fields: dict[str, Field] = {}
    for name, _, fingerprint in (w.partition("@") for w in wanted):
        table = read_annotations(catalog, name, episodes, fingerprint or None)
        if not len(table):
            known = catalog.latest("annotations").select("annotator").unique().collect()["annotator"].sort().to_list()
            said = f"; annotators that have run: {', '.join(known)}" if known else ""
            raise UsageError(f"{name!r} has annotated none of these episodes; run `cotrain annotate {name}` first{said}")
        valid = table.filter("valid").with_columns(pl.col("camera").fill_null(""))
        for (camera,), part in valid.group_by(["camera"], maintain_order=True):
            found, own = _spans(f"{PREFIX}{name}." + (f"{camera}." if camera else ""), part)
            spans.append(found)
            fields |= own
    return Annotated(tuple(spans), tuple(fields.values()))


def _spans(prefix: str, rows: pl.DataFrame) -> tuple[Spans, dict[str, Field]]:
    ordered = rows.sort("episode_id", "start_step")
    values: dict[str, npt.NDArray[Any] | list[str]] = {}
    fields: dict[str, Field] = {}
    for name in (c for c in ordered.columns if c not in _COMMON):
        column, key = _plain(ordered[name]), prefix + name
        if column is None:
            continue
        values[key] = column
        dtype, shape = ("string", ()) if isinstance(column, list) else (str(column.dtype), column.shape[1:])
        fields[key] = Field(key, "annotation", key, dtype, shape)
    names = ordered["episode_id"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]])) if len(names) else np.empty(0, int)
    stops = np.append(starts[1:], len(names))
    by_episode = {str(names[a]): (int(a), int(b)) for a, b in zip(starts, stops, strict=True)}
    return Spans(by_episode, ordered.select("start_step", "end_step").to_numpy().astype(np.int64), values), fields


def _plain(column: pl.Series) -> npt.NDArray[Any] | list[str] | None:
    """Return texts, numbers, or vectors of one length; None for what has no place in a batch (vectors of any length, tables)."""
    if column.dtype == pl.String or isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        return column.cast(pl.String).fill_null("").to_list()
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        filled = column.fill_null(float("nan")) if column.dtype.is_float() else column.fill_null(strategy="zero")
        return column.fill_null(value=False).to_numpy() if column.dtype == pl.Boolean else filled.to_numpy()
    if isinstance(column.dtype, (pl.List, pl.Array)) and column.dtype.inner.is_numeric():
        return _vectors(column, nothing=np.nan if column.dtype.inner.is_float() else 0)
    return None


def _vectors(column: pl.Series, nothing: float) -> npt.NDArray[Any] | None:
    """Return vectors of one length, with `nothing` where a row has none or lacks a number; None where their lengths differ."""
    vectors = column.to_list()
    widths = {len(v) for v in vectors if v is not None}
    if len(widths) != 1:
        return None
    blank = [nothing] * widths.pop()
    if any(v is None or None in v for v in vectors):
        vectors = [blank if v is None else [nothing if x is None else x for x in v] for v in vectors]
    return np.asarray(vectors)
