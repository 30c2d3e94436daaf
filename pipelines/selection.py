"""What a user points at: a mixture, a dataset or a query, turned into episodes of the catalog."""

from dataclasses import dataclass, field

import polars as pl

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Selection:
    """Chosen episodes (rows of `episodes`, ordered by dataset, shard, row) and the mixture they came from, if any."""

    episodes: pl.DataFrame
    mixture: str | None = None
    mixture_hash: str | None = None
    pins: dict[str, int | None] = field(default_factory=dict[str, int | None])


def choose(lake: Lake, what: str) -> Selection:
    """Resolve `what`: `mixture:NAME[@HASH]`, `dataset:NAME`, a bare name of either, `all`, a condition or a SELECT.

    Raises:
        UsageError: nothing matches, or a bare name is both a mixture and a dataset.
    """
    catalog = Catalog(lake)
    prefix, _, name = what.partition(":")
    if prefix == "dataset":
        return Selection(select_episodes(catalog, name))
    if prefix == "mixture":
        return _mixture(lake, catalog, name)
    mixtures = catalog.latest("mixtures").filter(pl.col("name") == what).collect()
    if mixtures.is_empty():
        return Selection(select_episodes(catalog, what))
    if not catalog.latest("datasets").filter(pl.col("dataset") == what).collect().is_empty():
        raise UsageError(f"{what!r} is both a mixture and a dataset; say mixture:{what} or dataset:{what}")
    return _mixture(lake, catalog, what)


def split_groups(episodes: pl.DataFrame) -> list[str]:
    """Return what each episode must share a split with: its group where it has one, else itself."""
    return episodes["split_group"].fill_null(episodes["episode_id"]).to_list()


def _mixture(lake: Lake, catalog: Catalog, name: str) -> Selection:
    from pipelines.mixture.manifest import open_mixture

    bare, _, wanted = name.partition("@")
    mixture = open_mixture(lake, bare, wanted or None)
    pins = mixture.pins
    ids = pl.DataFrame({"episode_id": mixture.episode_ids()}, schema={"episode_id": pl.String})
    known = catalog.latest("episodes", pins.get("episodes")).collect()
    episodes = known.join(ids.unique(), on="episode_id", how="semi").sort("dataset", "shard", "first_row")
    return Selection(episodes, bare, mixture.hash, pins)
