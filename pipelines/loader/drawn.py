"""What a draw says of itself, whatever step it shows: the route and modality of its source, and the loss weight of its step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pipelines.loader.fields import Field
from pipelines.loader.locate import Located
from pipelines.mixture.index import Index
from pipelines.mixture.plan import Plan
from schemas.mixture import MixtureSpec

ROUTE, MODALITY, LOSS_WEIGHT = "route", "modality", "loss_weight"


@dataclass(frozen=True)
class Drawn:
    """Columns of draws.

    Attributes:
        routes: per stretch of the order and source, its route; empty: no source has one.
        starts: first position of each stretch.
        modalities: per source; empty: no source has one.
        index: that knows loss weights; None: they are not asked for.
    """

    routes: tuple[tuple[str, ...], ...] = ()
    starts: tuple[int, ...] = (0,)
    modalities: tuple[str, ...] = ()
    index: Index | None = None

    @classmethod
    def of(cls, spec: MixtureSpec, index: Index, order: Any) -> Self:
        """Return what the draws of a mixture say; held-out samples, whose order has no stretches, have the routes of their sources."""
        stretches = spec.stretches() if isinstance(order, Plan) else ()
        maps: Sequence[Mapping[str, str]] = [s.routes for s in stretches] or [{}]
        routes = tuple(tuple(m.get(s.name, s.route) for s in spec.sources) for m in maps)
        starts = np.cumsum([0, *(s.samples for s in stretches)]).tolist()
        modalities = tuple(s.modality for s in spec.sources)
        return cls(
            routes if any(map(any, routes)) else (), tuple(starts[: len(routes)]), modalities if any(modalities) else (),
            index if spec.resampling.loss_weight else None,
        )  # fmt: skip

    @property
    def fields(self) -> tuple[Field, ...]:
        """What they add to every sample."""
        found = [
            Field(key, "drawn", key, "string", ()) for key, has in ((ROUTE, self.routes), (MODALITY, self.modalities)) if has
        ]
        return (*found, *([Field(LOSS_WEIGHT, "drawn", LOSS_WEIGHT, "float32", ())] if self.index is not None else []))

    def of_draw(self, found: Located) -> dict[str, Any]:
        """Return the columns of one draw."""
        columns: dict[str, Any] = {}
        if self.routes:
            stretch = int(np.searchsorted(self.starts, found.position, side="right")) - 1
            columns[ROUTE] = self.routes[stretch][found.source]
        if self.modalities:
            columns[MODALITY] = self.modalities[found.source]
        if self.index is not None:
            columns[LOSS_WEIGHT] = self.index.loss_weight(found.number, found.step)
        return columns
