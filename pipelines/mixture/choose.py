"""The episodes of each source of a mixture: chosen, split, cut to whole windows and weighed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl
from blake3 import blake3

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.loader.episode import EpisodeView
from pipelines.loader.fields import fields_of, reach_of
from pipelines.mixture.index import Split
from pipelines.mixture.scores import ScoreReader
from pipelines.mixture.weights import Weighted, weigh_source, weighted_columns
from pipelines.shards.reader import open_shard
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.ids import ID_HEX
from schemas.mixture import MixtureSpec, SourceSpec, WindowSpec
from transforms.splits import held_out
from transforms.windows import whole_anchors

CHUNK = 1 << 16
INDEX_COLUMNS = ("episode_id", "dataset", "shard", "first_row", "steps", "content_hash")


@dataclass(frozen=True, slots=True)
class Chosen:
    """One source's episodes; with weights, its train rows are runs of steps with a `weight`, and `weighted` says what they cost."""

    spec: SourceSpec
    train: pl.DataFrame
    val: pl.DataFrame
    weighted: Weighted | None = None

    @property
    def items(self) -> int:
        """Length of an epoch: train steps, or copies of them."""
        return self.weighted.items if self.weighted else self.steps

    @property
    def steps(self) -> int:
        """Number of train steps."""
        return int(self.train["steps"].sum())

    def parts(self) -> list[tuple[str, Split, pl.DataFrame]]:
        """Return what `build_index` wants."""
        return [(self.spec.name, "train", self.train), (self.spec.name, "val", self.val)]

    def id(self) -> str:
        """Identify the source by its name and content; the id seeds its order."""
        rows = self.train.select("episode_id", "content_hash", "steps", *(("first_row", "weight") if self.weighted else ()))
        hasher = blake3(b"[" + json.dumps(self.spec.name, ensure_ascii=False).encode() + b",[")
        for number, name in enumerate(rows.columns):
            hasher.update(b",[" if number else b"[")
            for piece in _json(rows[name]):
                hasher.update(piece)
            hasher.update(b"]")
        hasher.update(b"]]")
        return f"src-{hasher.hexdigest()[:ID_HEX]}"


def _json(column: pl.Series) -> Iterator[bytes]:
    """Yield a column's canonical JSON without its brackets: of a million rows it would be a hundred megabytes at once."""
    for start in range(0, len(column), CHUNK):
        text = json.dumps(column.slice(start, CHUNK).to_list(), separators=(",", ":"), ensure_ascii=False)
        yield ("," if start else "").encode() + text[1:-1].encode()


def choose_source(catalog: Catalog, spec: MixtureSpec, source: SourceSpec, pins: dict[str, int | None]) -> Chosen:
    """Choose the episodes of a source and hold some out.

    Raises:
        UsageError: the selector does not parse or chooses nothing, or no train step is left.
    """
    wanted = (*INDEX_COLUMNS, spec.split.by, *(["task"] if spec.unit == "tokens" else []), *weighted_columns(spec))
    try:
        rows = select_episodes(catalog, source.selector, pins, wanted)
    except UsageError as error:
        raise UsageError(f"source {source.name}: {error}") from error
    groups = rows[spec.split.by].fill_null(rows["episode_id"]).to_list() if spec.split.val else []
    held = pl.Series(held_out(groups, spec.split.val, spec.split.salt)) if groups else pl.repeat(False, len(rows), eager=True)
    found = Chosen(source, rows.filter(~held), rows.filter(held))
    if found.steps == 0:
        why = f"all {len(rows)} episodes are held out (split.val = {spec.split.val:g}); lower it or change split.salt"
        raise UsageError(f"source {source.name}: no train step: {why if len(found.val) else 'its episodes have no steps'}")
    return found


def within(lake: Lake, chosen: Chosen, contracts: dict[str, Contract], windows: WindowSpec) -> Chosen:
    """Leave out steps whose window leaves the episode.

    Raises:
        UsageError: no step is left.
    """
    train, val = (whole_windows(lake, rows, contracts, windows) for rows in (chosen.train, chosen.val))
    found = replace(chosen, train=train, val=val)
    if found.steps == 0:
        raise UsageError(
            f"source {chosen.spec.name}: with windows.edge = 'drop' no step is left, every window leaves its episode; shorten the "
            "windows or choose another edge"
        )
    return found


def weigh(lake: Lake, chosen: Chosen, scores: ScoreReader, spec: MixtureSpec) -> Chosen:
    """Give every train step its weight; see `pipelines.mixture.weights.weigh_source` for what is refused."""
    weighted = weigh_source(lake, scores, spec, chosen.spec.name, chosen.train)
    return replace(chosen, train=weighted.rows, weighted=weighted)


def whole_windows(lake: Lake, rows: pl.DataFrame, contracts: dict[str, Contract], windows: WindowSpec) -> pl.DataFrame:
    """Cut `first_row` and `steps` of episodes down to the steps whose every window lies inside; episodes without one go.

    Raises:
        UsageError: a window cannot be resolved for a dataset; see `pipelines.loader.fields.fields_of`.
    """
    reach = {name: reach_of(fields_of(contract, windows)) for name, contract in contracts.items()}
    first, steps = list[int](), list[int]()
    for row in rows.iter_rows(named=True):
        view = EpisodeView(open_shard(lake, row["dataset"], row["shard"]), row["episode_id"])
        start, stop = whole_anchors(view.t_ns, reach[row["dataset"]], hold_ns=view.period_ns, match=windows.match)
        first.append(row["first_row"] + start)
        steps.append(stop - start)
    cut = rows.with_columns(first_row=pl.Series(first, dtype=pl.Int64), steps=pl.Series(steps, dtype=pl.Int64))
    return cut.filter(pl.col("steps") > 0)
