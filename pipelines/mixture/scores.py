"""Scores of the catalog beside the episodes of a source: one value per episode, or per run of steps where spans are scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.loader.episode import EpisodeView
from pipelines.shards.reader import open_shard
from schemas.errors import UsageError
from schemas.mixture import WeightSpec

F64 = npt.NDArray[np.float64]
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Scores:
    """One version of one score: `episode_id`, `start_ns`, `end_ns` (null: to the end), `value`."""

    method: str
    fingerprint: str
    rows: pl.DataFrame


def read_scores(catalog: Catalog, term: WeightSpec, version: int | None = None) -> Scores:
    """Return the score a term names, in its newest version or the one the term names.

    Raises:
        UsageError: the catalog has no such score.
    """
    every = catalog.scan("scores", version)
    known = every.filter(pl.col("method") == term.score)
    newest = known.group_by("fingerprint").agg(pl.col("committed_ns").max()).sort("committed_ns", "fingerprint").collect()
    prints = newest["fingerprint"].to_list()
    if term.fingerprint:
        prints = [p for p in prints if p.startswith(term.fingerprint)]
    if not prints:
        methods = every.select("method").unique().sort("method").collect()["method"].to_list()
        version_text = f" with fingerprint {term.fingerprint}" if term.fingerprint else ""
        raise UsageError(
            f"there is no score {term.score!r}{version_text}; the catalog has {', '.join(methods) or 'none'}: "
            "compute it (`cotrain weigh`, `cotrain curate`), or name another"
        )
    mine = known.filter(pl.col("fingerprint") == prints[-1]).sort("committed_ns", descending=True, maintain_order=True)
    rows = mine.unique(["episode_id", "start_ns"], keep="first").select("episode_id", "start_ns", "end_ns", "value")
    return Scores(term.score, prints[-1], rows.sort("episode_id", "start_ns").collect())


def step_values(lake: Lake, rows: pl.DataFrame, scores: Sequence[Scores]) -> tuple[pl.DataFrame, list[F64]]:
    """Return a source's rows, cut where some score changes, and each score's value of each, NaN where there is none.

    Args:
        lake: where the shards are; opened only for episodes with spans.
        rows: episodes: `episode_id`, `dataset`, `shard`, `first_row`, `steps`, `duration_s`, `control_hz`.
        scores: to look up.
    """
    whole = [_whole(s, rows) for s in scores]
    spans = [_spans(s, rows) for s in scores]
    cut = pl.concat([s.select("episode_id") for s in spans]).unique() if spans else pl.DataFrame({"episode_id": []})
    if cut.is_empty():
        return rows, whole
    spanned = [dict(s.group_by("episode_id").agg(pl.struct("start_ns", "end_ns", "value")).iter_rows()) for s in spans]
    is_cut = rows["episode_id"].is_in(cut["episode_id"].implode()).to_numpy()
    pieces: list[tuple[int, int, int, list[float]]] = []  # row, first step, steps, values
    for number, row in enumerate(rows.select("episode_id", "dataset", "shard", "first_row", "steps").iter_rows(named=True)):
        if is_cut[number]:
            mine = [s.get(row["episode_id"], ()) for s in spanned]
            pieces += _cut(lake, row, number, mine, [float(w[number]) for w in whole])
        else:
            pieces.append((number, 0, row["steps"], [float(w[number]) for w in whole]))
    at, first, steps, values = zip(*pieces, strict=True)
    moved = pl.Series(first, dtype=pl.Int64)
    found = rows[list(at)].with_columns(first_row=pl.col("first_row") + moved, steps=pl.Series(steps, dtype=pl.Int64))
    table = np.asarray(values, np.float64).reshape(len(pieces), len(scores))
    return found, [table[:, k] for k in range(len(scores))]


def _cut(
    lake: Lake, row: dict[str, object], number: int, spans: list[Sequence[Mapping[str, float | None]]], whole: list[float]
) -> list[tuple[int, int, int, list[float]]]:
    """Cut one row into runs of steps with equal values; of spans that overlap, the one that starts last counts."""
    view = EpisodeView(open_shard(lake, str(row["dataset"]), str(row["shard"])), str(row["episode_id"]))
    begin, count = int(str(row["first_row"])) - view.first_row, int(str(row["steps"]))
    times = view.t_ns[begin : begin + count]
    values = np.tile(np.asarray(whole), (count, 1))
    for k, mine in enumerate(spans):
        for span in mine:
            start, end, value = span["start_ns"] or 0, span["end_ns"], span["value"]
            values[(times >= start) & (times < (np.inf if end is None else end)), k] = np.nan if value is None else value
    if not count:
        return []
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    bounds = [0, *(np.flatnonzero(~same.all(axis=1)) + 1).tolist(), count]
    return [(number, a, b - a, values[a].tolist()) for a, b in pairwise(bounds)]


def _whole(scores: Scores, rows: pl.DataFrame) -> F64:
    """Return the value of each row whose episode is scored as a whole, float64[rows]."""
    mine = _with_length(scores, rows).filter(_covers_all()).select("episode_id", "value")
    found = rows.select("episode_id").join(mine, on="episode_id", how="left", maintain_order="left")
    return found["value"].fill_null(np.nan).to_numpy()


def _spans(scores: Scores, rows: pl.DataFrame) -> pl.DataFrame:
    return _with_length(scores, rows).filter(~_covers_all()).sort("episode_id", "start_ns")


def _with_length(scores: Scores, rows: pl.DataFrame) -> pl.DataFrame:
    lengths = rows.select("episode_id", "duration_s", "control_hz").unique("episode_id")
    counted = scores.rows.with_columns(spans=pl.len().over("episode_id"))
    return counted.join(lengths, on="episode_id", how="inner")


def _covers_all() -> pl.Expr:
    """Tell whether a score speaks for its whole episode: its only row, and to within a step of both ends."""
    step = SECOND / pl.col("control_hz").fill_null(1.0)
    end = pl.col("end_ns").is_null() | (pl.col("end_ns") + step >= pl.col("duration_s").fill_null(0.0) * SECOND)
    return (pl.col("spans") == 1) & (pl.col("start_ns") <= 0) & end
