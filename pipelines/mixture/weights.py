"""The weights of a source: its episodes cut into runs of equal weight, and a refusal where too little of them would be left."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from catalog.lake import Lake
from pipelines.mixture.scores import ScoreReader, step_values
from schemas.errors import InfeasibleMixtureError, UsageError
from schemas.mixture import MixtureSpec, ResamplingSpec, WeightSpec
from schemas.tables import EPISODES
from transforms.resampling import UNIT, Copies, drawn_start, effective_size, whole_weights
from transforms.weights import Term, combine, evaluate

F64 = npt.NDArray[np.float64]
SHOWN = 5  # examples a message gives


@dataclass(frozen=True, slots=True)
class Weighted:
    """A source after weighting.

    Attributes:
        rows: like its episodes, with `weight` int64 in units of 2^-20; an episode whose weight changes is several rows.
        ess: effective sample size, as a share of its steps.
        kept: share of its steps that an epoch contains.
        items: length of an epoch.
    """

    rows: pl.DataFrame
    ess: float
    kept: float
    items: int


def terms_of(spec: MixtureSpec, source: str) -> list[WeightSpec]:
    """Return the terms that apply to a source."""
    return [term for term in spec.weights if not term.sources or source in term.sources]


def weigh_source(lake: Lake, scores: ScoreReader, spec: MixtureSpec, source: str, rows: pl.DataFrame) -> Weighted:
    """Weigh the train episodes of a source.

    Args:
        lake: where shards are.
        scores: reads them.
        spec: of the mixture.
        source: its name.
        rows: its episodes, with every column of `episodes` that terms and `resampling.by` name.

    Raises:
        UsageError: a term has no value for some steps and does not say what they are, or its expression fails.
        InfeasibleMixtureError: what is left falls below `resampling.min_ess` or `min_retention`.
    """
    terms = terms_of(spec, source)
    if not terms:
        return Weighted(rows.with_columns(weight=pl.lit(UNIT, pl.Int64)), 1.0, 1.0, int(rows["steps"].sum()))
    known = [None if t.column else scores(t) for t in terms]
    runs, values = step_values(lake, rows, [s for s in known if s is not None])
    columns = iter(values)
    evaluated = [
        _evaluated(source, term, runs, _expression(source, term, runs) if score is None else next(columns))
        for term, score in zip(terms, known, strict=True)
    ]
    steps = runs["steps"].to_numpy()
    weights = combine(evaluated, steps)
    found = runs.with_columns(weight=pl.Series(whole_weights(weights, steps), dtype=pl.Int64))
    return _checked(source, spec.resampling, rows, found, weights)


def _evaluated(source: str, term: WeightSpec, runs: pl.DataFrame, values: F64) -> Term:
    found = evaluate(term, np.where(np.isfinite(values), values, np.nan), runs["steps"].to_numpy())
    if found.missing.any() and term.missing == "error":
        lost = runs.filter(pl.Series(found.missing))
        examples = ", ".join(lost["episode_id"].unique(maintain_order=True).head(SHOWN).to_list())
        raise UsageError(
            f"source {source}: {term.name} has no value for {lost['steps'].sum()} of {runs['steps'].sum()} steps "
            f"({lost['episode_id'].n_unique()} episodes: {examples}); compute it, or say missing = 'neutral' or 'drop'"
        )
    return found


def _expression(source: str, term: WeightSpec, runs: pl.DataFrame) -> F64:
    try:
        found = runs.select(pl.sql_expr(term.column).cast(pl.Float64).alias("value"))
    except PolarsError as error:
        raise UsageError(f"source {source}: the expression {term.column!r} fails over `episodes`: {error}") from error
    return found["value"].fill_null(np.nan).to_numpy() if len(found) == len(runs) else np.full(len(runs), float(found.item()))


def _checked(source: str, limits: ResamplingSpec, rows: pl.DataFrame, found: pl.DataFrame, weights: F64) -> Weighted:
    """Refuse a source of which too little is left; the others come without the runs that no epoch contains."""
    steps, total = found["steps"].to_numpy(), int(rows["steps"].sum())
    copies = Copies(steps, found["weight"].to_numpy(), drawn_start(source))
    if not len(copies):
        raise InfeasibleMixtureError(f"source {source}: the gates of its weights shut out all {total} steps; open them further")
    ess = effective_size(weights, steps) / total
    if ess < limits.min_ess:
        raise InfeasibleMixtureError(
            f"source {source}: its weights leave an effective sample size of {ess * total:.0f} of {total} steps ({ess:.1%}), less "
            f"than resampling.min_ess = {limits.min_ess:g}; clip them (low, high), lower their strength, or lower min_ess"
        )
    kept = found.with_columns(kept=pl.Series(copies.kept(), dtype=pl.Int64))
    _check_retention(source, limits, rows, kept)
    return Weighted(found.filter(pl.col("weight") > 0), ess, int(kept["kept"].sum()) / total, len(copies))


def _check_retention(source: str, limits: ResamplingSpec, rows: pl.DataFrame, kept: pl.DataFrame) -> None:
    group = pl.col(limits.by).fill_null("").alias("group")
    before = rows.group_by(group).agg(pl.col("steps").sum())
    after = kept.group_by(group).agg(pl.col("kept").sum())
    share = (pl.col("kept").fill_null(0) / pl.col("steps")).alias("share")
    lost = before.join(after, on="group", how="left").with_columns(share).filter(pl.col("share") < limits.min_retention)
    if len(lost):
        worst = lost.sort("share", "group").head(SHOWN)
        text = "; ".join(f"{n!r} {k or 0} of {s} steps" for n, s, k in worst.select("group", "steps", "kept").iter_rows())
        raise InfeasibleMixtureError(
            f"source {source}: an epoch would keep less than resampling.min_retention = {limits.min_retention:g} of {len(lost)} of "
            f"{len(before)} groups by {limits.by} ({text}); clip the weights, lower their strength, or lower min_retention"
        )


def weighted_columns(spec: MixtureSpec) -> tuple[str, ...]:
    """Return the columns of `episodes` that weighing needs beyond those of an index.

    Raises:
        UsageError: an expression does not parse, or names a column that `episodes` does not have.
    """
    if not spec.weights:
        return ()
    named: list[str] = []
    for term in spec.weights:
        if term.column:
            try:
                named += pl.sql_expr(term.column).meta.root_names()
            except PolarsError as error:
                raise UsageError(f"weights.column {term.column!r} is no SQL expression: {error}") from error
    if unknown := sorted(set(named) - set(EPISODES.schema.names)):
        raise UsageError(f"weights.column names {', '.join(unknown)}; `episodes` has {', '.join(EPISODES.schema.names)}")
    return ("duration_s", "control_hz", spec.resampling.by, *named)
