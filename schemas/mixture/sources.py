"""What a mixture draws from and in which order: sources, the split, locality and phases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas.checks import as_floats, choice, number, slug, text, whole
from schemas.errors import UsageError

SplitKey = Literal["split_group", "episode_id"]
Unit = Literal["samples", "frames", "tokens"]
UNITS: tuple[Unit, ...] = ("samples", "frames", "tokens")
MODALITIES = ("robot", "vl", "dense_language", "cross_embodiment", "human_video", "action_tokens")
ROUTES = ("action", "language", "both", "world")
MAX_SAMPLES = 1 << 60


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One source of a mixture.

    Attributes:
        name: a slug, unique in the mixture; it seeds the source's order.
        where: a selector as in `catalog.query.select_episodes`; left out, the dataset called `name`.
        weight: relative share, above 0.
        max_epochs: the source is drawn at most this many times over; None: no limit.
        floor: smallest share of the mixture, in [0, 1).
        modality: what kind of co-training data it is, one of `MODALITIES`; `cotrain mix ablate` leaves them out one at a time.
        route: which heads its rows train, one of `ROUTES`; emitted as `route` with every sample.
    """

    name: str
    where: str = ""
    weight: float = 1.0
    max_epochs: float | None = None
    floor: float = 0.0
    modality: str = ""
    route: str = ""

    def __post_init__(self) -> None:
        slug(f"sources.{self.name}.name", self.name)
        key = f"sources.{self.name}"
        text(f"{key}.where", self.where)
        number(f"{key}.weight", self.weight, 0, math.inf, "a number above 0; remove the source to leave it out", strict=True)
        number(f"{key}.floor", self.floor, 0, 1, "a share of the mixture from 0 to below 1")
        if self.max_epochs is not None:
            number(f"{key}.max_epochs", self.max_epochs, 0, math.inf, "a number above 0, or leave it out", strict=True)
        choice(f"{key}.modality", self.modality, ("", *MODALITIES))
        choice(f"{key}.route", self.route, ("", *ROUTES))
        as_floats(self, "weight", "floor", "max_epochs")

    @property
    def selector(self) -> str:
        """What `select_episodes` is asked."""
        return self.where or self.name


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """How episodes are held out: all of a group or none of it, decided by a hash of the group alone.

    Attributes:
        val: share of the groups held out, in [0, 1).
        salt: changes which ones.
        by: the column of `episodes` that names the group.
    """

    val: float = 0.0
    salt: str = ""
    by: SplitKey = "split_group"

    def __post_init__(self) -> None:
        number("split.val", self.val, 0, 1, "a share from 0 to below 1")
        text("split.salt", self.salt)
        choice("split.by", self.by, ("split_group", "episode_id"))
        as_floats(self, "val")


@dataclass(frozen=True, slots=True)
class LocalitySpec:
    """How near to each other a source's successive draws stay.

    Its blocks are shuffled, then the steps of every `window` consecutive blocks among themselves. A batch then touches about
    `window` episodes instead of as many as it has samples; 1 reads block after block, more blocks than there are shuffle globally.

    Attributes:
        window: blocks shuffled together.
        block_steps: steps per block; 0: a block is an episode.
    """

    window: int
    block_steps: int = 0

    def __post_init__(self) -> None:
        whole("locality.window", self.window, 1, 1 << 31)
        whole("locality.block_steps", self.block_steps, 0, 1 << 31)


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """A stretch of the mixture with weights of its own.

    Attributes:
        samples: number of draws.
        weights: per source name, in place of `SourceSpec.weight`; a source that is not named is left out of the phase.
        end_weights: shares move in a straight line from those of `weights` to these; a source that only one of them names starts
            or ends at 0. Empty: they stay.
        pieces: the line is cut into this many stretches of constant shares.
        routes: per source name, in place of `SourceSpec.route`.
    """

    samples: int
    weights: Mapping[str, float]
    end_weights: Mapping[str, float] = field(default_factory=dict[str, float])
    pieces: int = 16
    routes: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        whole("phases.samples", self.samples, 1, MAX_SAMPLES)
        whole("phases.pieces", self.pieces, 1, 1 << 10)
        if not isinstance(self.weights, Mapping) or not self.weights:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"phases.weights is {self.weights!r}; give a table of weights by source name, at least one")
        for key in ("weights", "end_weights"):
            object.__setattr__(self, key, _weights(f"phases.{key}", getattr(self, key)))
        if not isinstance(self.routes, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"phases.routes is {self.routes!r}; give a table of routes by source name")
        for name, route in self.routes.items():
            choice(f"phases.routes.{name}", route, ROUTES)
        object.__setattr__(self, "routes", dict(sorted(self.routes.items())))
        if self.end_weights and self.samples < self.pieces:
            raise UsageError(f"phases.samples is {self.samples}, fewer than its {self.pieces} pieces; lower phases.pieces")

    @property
    def names(self) -> set[str]:
        """The sources it draws at some point."""
        return {*self.weights, *self.end_weights}

    def stretches(self) -> "tuple[PhaseSpec, ...]":
        """Return the phase as stretches of constant shares, each with those of its middle."""
        if not self.end_weights:
            return (self,)
        first, last = _shares(self.weights), _shares(self.end_weights)
        bounds = [self.samples * k // self.pieces for k in range(self.pieces + 1)]
        found: list[PhaseSpec] = []
        for k in range(self.pieces):
            along = (k + 0.5) / self.pieces
            mixed = {n: (1 - along) * first.get(n, 0.0) + along * last.get(n, 0.0) for n in sorted(self.names)}
            found.append(PhaseSpec(bounds[k + 1] - bounds[k], mixed, routes=self.routes))
        return tuple(found)


def _weights(key: str, raw: object) -> dict[str, float]:
    if not isinstance(raw, Mapping):
        raise UsageError(f"{key} is {raw!r}; give a table of weights by source name")
    for name, weight in raw.items():
        number(f"{key}.{name}", weight, 0, math.inf, "above 0; leave the source out instead", strict=True)
    return {n: float(w) for n, w in sorted(raw.items())}


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    return {n: w / total for n, w in weights.items()}
