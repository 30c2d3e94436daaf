"""A fit as a stage of one unit: trained once per content of its selection and configuration, its scores committed exactly once."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import polars as pl

from catalog.lake import Lake
from pipelines.selection import choose
from pipelines.unit import Output, Unit
from schemas.errors import UsageError
from schemas.ids import short_id, unit_id

CODE = "1"  # raise when the scores a fitter writes for the same input change


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fitter found.

    Attributes:
        scores: columns `episode_id`, `start_ns`, `end_ns`, `value`; one row per episode or span.
        facts: JSON-ready figures about the fit itself.
    """

    scores: pl.DataFrame
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


class Fitter(Protocol):
    """A method that scores episodes by training on them. Implementations are frozen dataclasses of plain settings."""

    @property
    def method(self) -> str:
        """Its name in the `scores` table."""
        ...

    def fit(self, lake: Lake, episodes: pl.DataFrame) -> Fitted:
        """Train on `episodes` and score them."""
        ...


@dataclass(frozen=True, slots=True)
class FitStage:
    """Fit one method on one selection.

    Attributes:
        lake: where episodes are and scores go.
        fitter: the method and its settings.
        what: see `pipelines.selection.choose`.
    """

    lake: Lake
    fitter: Fitter
    what: str
    name: str = "fit"

    @property
    def fingerprint(self) -> str:
        """Identify method, settings and code: what the `scores` rows carry."""
        settings: Any = self.fitter
        return short_id("fp", [self.fitter.method, asdict(settings), CODE])

    def plan(self) -> Sequence[Unit]:
        """Return the single unit.

        Raises:
            UsageError: nothing is selected.
        """
        chosen = choose(self.lake, self.what).episodes
        if chosen.is_empty():
            raise UsageError(f"{self.what!r} selects no episode; there is nothing to fit")
        content = chosen.select("episode_id", "content_hash").sort("episode_id").rows()
        name = unit_id(self.name, content, self.fingerprint, CODE)
        label = f"{self.fitter.method} on {self.what}"
        return [Unit(name, self.name, self.what, label, None, int(chosen["bytes"].sum() or 0), chosen.height)]

    def work(self, unit: Unit) -> Output:
        """Train and score."""
        chosen = choose(self.lake, self.what).episodes
        fitted = self.fitter.fit(self.lake, chosen)
        rows = fitted.scores.with_columns(
            pl.lit(self.fitter.method).alias("method"),
            pl.lit(self.fingerprint).alias("fingerprint"),
            pl.lit(json.dumps({"unit": unit.id, **fitted.facts}, sort_keys=True)).alias("detail"),
        )
        return Output((), {"scores": rows.to_arrow()}, rows=rows.height)
