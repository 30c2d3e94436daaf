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
from transforms.windows import SECOND

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """One version of one score: `episode_id`, `start_ns`, `end_ns` (null: to the end), `value`."""

    method: str
    fingerprint: str
    rows: pl.DataFrame


class ScoreReader:
    """The scores of one catalog at one version, each read once for all sources of a mixture."""

    def __init__(self, catalog: Catalog, version: int | None = None) -> None:
        self._catalog, self._version = catalog, version
        self._known: dict[tuple[str, str], Scores] = {}

    def __call__(self, term: WeightSpec) -> Scores:
        """Return the score a term names, in its newest version or the one the term names.

        Raises:
            UsageError: the catalog has no such score.
        """
        key = (term.score, term.fingerprint)
        if key not in self._known:
            self._known[key] = self._read(*key)
        return self._known[key]

    def _read(self, method: str, wanted: str) -> Scores:
        every = self._catalog.scan("scores", self._version)
        known = every.filter(pl.col("method") == method)
        newest = known.group_by("fingerprint").agg(pl.col("committed_ns").max()).sort("committed_ns", "fingerprint").collect()
        prints = [p for p in newest["fingerprint"].to_list() if p.startswith(wanted)]
        if not prints:
            methods = every.select("method").unique().sort("method").collect()["method"].to_list()
            raise UsageError(
                f"there is no score {method!r}{f' with fingerprint {wanted}' if wanted else ''}; the catalog has "
                f"{', '.join(methods) or 'none'}: compute it (`cotrain weigh`, `cotrain curate`), or name another"
            )
        mine = known.filter(pl.col("fingerprint") == prints[-1]).select(
            "episode_id", "start_ns", "end_ns", "value", "committed_ns"
        )
        latest = mine.sort("committed_ns", descending=True, maintain_order=True).unique(["episode_id", "start_ns"], keep="first")
        return Scores(method, prints[-1], latest.drop("committed_ns").collect())


def step_values(lake: Lake, rows: pl.DataFrame, scores: Sequence[Scores]) -> tuple[pl.DataFrame, list[F64]]:
    """Return a source's rows, cut where some score changes, and each score's value of each, NaN where there is none.

    Args:
        lake: where the shards are; opened only for episodes with spans.
        rows: episodes: `episode_id`, `dataset`, `shard`, `first_row`, `steps`, `duration_s`, `control_hz`.
        scores: to look up.
    """
    parted = [_parted(s, rows) for s in scores]
    whole, spans = [w for w, _ in parted], [s for _, s in parted]
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


def _parted(scores: Scores, rows: pl.DataFrame) -> tuple[F64, pl.DataFrame]:
    """Return the value of each row whose episode is scored as a whole, float64[rows], and the spans of the others."""
    lengths = rows.select("episode_id", "duration_s", "control_hz").unique("episode_id")
    mine = scores.rows.join(lengths, on="episode_id", how="inner")
    several = mine.filter(mine["episode_id"].is_duplicated())["episode_id"].unique()
    is_whole = mine.select(_covers_all() & ~pl.col("episode_id").is_in(several.implode())).to_series()
    values = mine.filter(is_whole).select("episode_id", "value")
    found = rows.select("episode_id").join(values, on="episode_id", how="left", maintain_order="left")
    return found["value"].fill_null(np.nan).to_numpy(), mine.filter(~is_whole).sort("episode_id", "start_ns")


def _covers_all() -> pl.Expr:
    """Tell whether a score covers its episode to within a step of both ends; the only row of an episode then speaks for all of it."""
    step = SECOND / pl.col("control_hz").fill_null(1.0)
    end = pl.col("end_ns").is_null() | (pl.col("end_ns") + step >= pl.col("duration_s").fill_null(0.0) * SECOND)
    return (pl.col("start_ns") <= 0) & end
