"""What teachers know of a step, joined to its sample by row id: one of a frame's cached draws, chosen by the sample's position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.loader.fields import Field
from pipelines.residuals.keys import contract_digest
from pipelines.residuals.store import Cache, open_cache
from schemas.contract import Contract
from transforms.noise import seed_of

PREFIX = "residual."
_ROW = ("episode_index", "frame_index", "seed", "draw")
_RENAMED = {"action_is_pad": "padding"}  # `<key>_is_pad` says in batches that a whole key is missing


@dataclass(frozen=True)
class CachedRows:
    """One cache, ready to be joined; it travels to workers as its name and is opened there.

    Attributes:
        lake: where it is.
        teacher: its teacher's id.
        key: its key.
        contents: content hash and contract digest per episode.
    """

    lake: Lake
    teacher: str
    key: str | None
    contents: Mapping[str, tuple[str, str]]

    @cached_property
    def cache(self) -> Cache:
        """The rows."""
        return open_cache(self.lake, self.teacher, self.key, contents=self.contents)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped files behind."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that samples get; the action's noise is made again where it is not stored."""
        file = self.cache.files[0]
        drawn = "tau_a" in file.columns and bool(np.isfinite(file.columns["tau_a"][:1]).all())
        own = [n for n in (*file.columns, *file.shared) if n not in (*_ROW, "noise") and (drawn or not n.startswith("tau_"))]
        return (*own, *(["noise"] if drawn else []))

    def fields(self) -> tuple[Field, ...]:
        """Return the keys of a sample: `residual.<teacher>.<column>`."""
        first = self.cache.take([0], self.names)
        shapes = {n: (str(v.dtype), v.shape[1:]) for n, v in first.items()} | {"draw": ("int64", ())}
        return tuple(Field(self._named(n), "annotation", n, kind, shape) for n, (kind, shape) in shapes.items())

    def of(self, episode: str, step: int, position: int) -> dict[str, Any]:
        """Return what is cached of a step; nothing, where it is not."""
        draw = seed_of("draw", position) % self.cache.header.draws if self.cache.header.draws > 1 else 0
        row = self.cache.row(episode, step, draw)
        if row is None:
            return {}
        found = {n: np.asarray(v[0]) for n, v in self.cache.take([row], self.names).items()} | {
            "draw": np.asarray(draw, np.int64)
        }
        return {self._named(n): v for n, v in found.items()}

    def _named(self, column: str) -> str:
        return f"{PREFIX}{self.teacher}.{_RENAMED.get(column, column)}"


def join_residuals(
    lake: Lake, episodes: pl.DataFrame, contracts: Mapping[str, Contract], pins: Mapping[str, int | None], wanted: Sequence[str]
) -> tuple[CachedRows, ...]:
    """Return the caches of `episodes`.

    Args:
        lake: where they are.
        episodes: `episode_id` and `dataset`.
        contracts: per dataset.
        pins: version of the catalog's tables.
        wanted: teachers as `NAME` or `NAME@KEY`, the beginning of a key where one has several caches.

    Raises:
        UsageError: there is no such cache, or it holds none of these episodes as they are now.
    """
    known = Catalog(lake).latest("episodes", pins.get("episodes")).select("episode_id", "content_hash").collect()
    hashes = dict(known.iter_rows())
    digests = {name: contract_digest(contract) for name, contract in contracts.items()}
    contents = {e: (hashes.get(e, ""), digests[d]) for e, d in episodes.select("episode_id", "dataset").unique().iter_rows()}
    found: list[CachedRows] = []
    for name, _, key in (w.partition("@") for w in wanted):
        found.append(CachedRows(lake, name, key or None, contents))
        len(found[-1].cache)  # says now, not in a worker, that there is none
    return tuple(found)
