"""One row per chosen episode with a column per score: what gates, written in SQL, are asked about."""

from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from catalog.tables import Catalog
from pipelines.curate.scores import PREFIX
from schemas.curation import DuplicateKind, DuplicateSpec
from schemas.errors import UsageError
from schemas.tables import EPISODES
from transforms.curation.metrics import METRICS
from transforms.unionfind import components

STRENGTH: tuple[DuplicateKind, ...] = ("visual", "trajectory", "exact")  # of equally similar pairs the strongest evidence is told


def method_of(score: str) -> str:
    """Return the method in the table `scores` that a spec's `score` means: quality scores may be named without their prefix."""
    return f"{PREFIX}{score}" if score in METRICS else score


def column_of(score: str) -> str:
    """Return the column under which a score appears: what SQL can say without quotes, and no column of `episodes`."""
    name = score.removeprefix(PREFIX).replace(".", "_").replace("-", "_")
    return f"{name}_score" if name in EPISODES.schema.names else name


def better_is_less(score: str) -> bool:
    """Tell whether less of a score is better; of scores that are not ours, more is."""
    metric = METRICS.get(score.removeprefix(PREFIX))
    return metric is not None and metric.better == "less"


def scored(catalog: Catalog, episodes: pl.DataFrame, scores: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Add to `episodes` one column per `(score, fingerprint)`; an empty fingerprint takes each episode's newest value.

    Spans of one episode count by their mean. Episodes without a value have null.

    Raises:
        UsageError: no chosen episode has a row of a score.
    """
    table = catalog.latest("scores").join(episodes.lazy().select("episode_id"), on="episode_id", how="semi").collect()
    frame = episodes
    for score, fingerprint in scores:
        rows = table.filter(pl.col("method") == method_of(score))
        if fingerprint:
            rows = rows.filter(pl.col("fingerprint") == fingerprint)
        if rows.is_empty():
            raise UsageError(_absent(score, fingerprint, table))
        newest = rows.sort("committed_ns").group_by("episode_id").agg(pl.col("fingerprint").last())
        rows = rows.join(newest, on=["episode_id", "fingerprint"], how="semi")
        values = rows.group_by("episode_id").agg(pl.col("value").mean().alias(column_of(score)))
        frame = frame.join(values, on="episode_id", how="left", maintain_order="left")
    return frame


def duplicate_of(catalog: Catalog, frame: pl.DataFrame, spec: DuplicateSpec) -> pl.DataFrame:
    """Add `duplicate_of` (the episode that stays in its place), `duplicate_kind` and `duplicate_similarity`; null for those that stay.

    Verified pairs among the chosen episodes are joined into clusters; of each, the best by `spec.keep` stays, the first by dataset
    and key where that does not decide. Independent of the order in which pairs or episodes come.
    """
    order = frame.select("episode_id", "content_hash", "dataset", "key", *([column_of(spec.keep)] if spec.keep else []))
    edges = current_pairs(catalog, frame, spec)
    ids = order["episode_id"].to_list()
    value = order[column_of(spec.keep)].to_list() if spec.keep else [None] * len(ids)
    sign = -1.0 if better_is_less(spec.keep) else 1.0
    rank = {
        e: (v is None, -sign * (v or 0.0), d, k, e) for v, d, k, e in zip(value, order["dataset"], order["key"], ids, strict=True)
    }
    keeper: dict[str, str] = {}
    for group in clusters(ids, edges):
        keeper |= dict.fromkeys(group, min(group, key=rank.__getitem__))
    told: dict[str, tuple[str, float]] = {}
    ranked = edges.with_columns(pl.col("kind").replace_strict({kind: i for i, kind in enumerate(STRENGTH)}).alias("strength"))
    for a, b, kind, similarity in (
        ranked.sort("similarity", "strength").select("episode_id", "other_id", "kind", "similarity").iter_rows()
    ):
        told[a] = told[b] = (kind, similarity)
    gone = [None if keeper[e] == e else keeper[e] for e in ids]
    return frame.with_columns(
        pl.Series("duplicate_of", gone, pl.String),
        pl.Series("duplicate_kind", [told[e][0] if g else None for e, g in zip(ids, gone, strict=True)], pl.String),
        pl.Series("duplicate_similarity", [told[e][1] if g else None for e, g in zip(ids, gone, strict=True)], pl.Float64),
    )


def clusters(ids: Sequence[str], pairs: pl.DataFrame) -> list[list[str]]:
    """Return `ids` by cluster of `pairs` (`episode_id` and `other_id`), single ones too; each in the order of `ids`."""
    place = {e: i for i, e in enumerate(ids)}
    root = components(len(ids), ((place[a], place[b]) for a, b in pairs.select("episode_id", "other_id").iter_rows()))
    found: dict[int, list[str]] = {}
    for e, r in zip(ids, root.tolist(), strict=True):
        found.setdefault(r, []).append(e)
    return list(found.values())


def current_pairs(catalog: Catalog, episodes: pl.DataFrame, spec: DuplicateSpec) -> pl.DataFrame:
    """Return the verified pairs among `episodes` that were found in what they hold now."""
    now = episodes.select("episode_id", "content_hash")
    rows = (
        catalog.latest("duplicates")
        .filter(pl.col("kind").is_in(list(spec.kinds)) & (pl.col("similarity") >= spec.least))
        .collect()
    )
    rows = rows.join(now, on=["episode_id", "content_hash"], how="semi")
    other = now.rename({"episode_id": "other_id", "content_hash": "other_hash"})
    return rows.join(other, on=["other_id", "other_hash"], how="semi").sort("episode_id", "other_id", "kind")


def _absent(score: str, fingerprint: str, table: pl.DataFrame) -> str:
    known = sorted(m.removeprefix(PREFIX) for m in table["method"].unique().to_list())
    if fingerprint:
        return f"no chosen episode has the score {score!r} with fingerprint {fingerprint}"
    if score in METRICS:
        return f"no chosen episode has the score {score!r} yet; run `cotrain curate score --methods {score}`"
    near = get_close_matches(score, [*METRICS, *known], 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none; run `cotrain curate score`'}"
    return f"no chosen episode has a score called {score!r}; {hint}"
