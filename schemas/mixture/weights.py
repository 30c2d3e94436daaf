"""How much the steps of a source count against each other: the terms of their weights, and what may not be lost to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.checks import as_floats, choice, number, text, truth
from schemas.errors import UsageError

Form = Literal["log", "linear", "magnitude", "standard"]
Missing = Literal["error", "neutral", "drop"]
Coverage = Literal["task", "dataset", "split_group", "embodiment"]
FORMS: tuple[Form, ...] = ("log", "linear", "magnitude", "standard")
MISSING: tuple[Missing, ...] = ("error", "neutral", "drop")
COVERAGE: tuple[Coverage, ...] = ("task", "dataset", "split_group", "embodiment")


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """One term: log w(x) is the sum over terms of `strength * clip(l(x), low, high)`, and w(x) is 0 where a gate is shut.

    Attributes:
        score: method in the `scores` table, of whole episodes or of spans of them. Or instead ...
        column: ... a SQL expression over `episodes`, for example `duration_s / steps`.
        fingerprint: of the score; empty: the newest.
        form: what l is: `log`, the value itself (log density ratios, PMI, log DICE weights); `linear`, its logarithm (progress,
            durations; 0 shuts the gate); `magnitude`, the logarithm of its size (errors as priorities); `standard`, the value less
            its mean over the source, in standard deviations (quality scores of any unit).
        strength: exponent of this term; negative prefers small values, -1/tau makes `exp(-age / tau)` of ages in `log`.
        low: l is never less than this; None: no limit.
        high: l is never more than this; None: no limit.
        at_least: values below it shut the gate; None: no gate.
        at_most: values above it shut the gate; None: no gate.
        missing: what a step without a value is: an `error`, `neutral` (l = 0), or `drop`ped from the source.
        sources: names of the sources it applies to; empty: all.
    """

    score: str = ""
    column: str = ""
    fingerprint: str = ""
    form: Form = "log"
    strength: float = 1.0
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    missing: Missing = "error"
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("score", "column", "fingerprint"):
            text(f"weights.{key}", getattr(self, key))
        if bool(self.score) == bool(self.column):
            raise UsageError("weights: name either a score of the catalog (score) or an expression over episodes (column)")
        if self.fingerprint and not self.score:
            raise UsageError("weights.fingerprint chooses between versions of a score; it says nothing about a column")
        choice("weights.form", self.form, FORMS)
        choice("weights.missing", self.missing, MISSING)
        number("weights.strength", self.strength, -math.inf, math.inf, "a finite number")
        for key in ("low", "high", "at_least", "at_most"):
            if getattr(self, key) is not None:
                number(f"weights.{key}", getattr(self, key), -math.inf, math.inf, "a finite number, or leave it out")
        as_floats(self, "strength", "low", "high", "at_least", "at_most")
        for low, high in (("low", "high"), ("at_least", "at_most")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise UsageError(f"weights.{low} is {least:g}, above weights.{high} = {most:g}; exchange them")
        if isinstance(self.sources, str) or not isinstance(self.sources, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"weights.sources is {self.sources!r}; give a list of source names")
        object.__setattr__(self, "sources", tuple(self.sources))

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"score {self.score}" if self.score else f"column {self.column}"


@dataclass(frozen=True, slots=True)
class ResamplingSpec:
    """What weights may cost at most, per source; a mixture that breaks a limit is refused with the figures.

    Attributes:
        min_ess: smallest effective sample size (sum w)^2 / sum w^2, as a share of the source's steps.
        min_retention: smallest share of the steps of any group that an epoch still contains.
        by: the column of `episodes` that groups them.
        loss_weight: emit `loss_weight`, weight over multiplicity, with every sample: what rounding to whole copies left over.
    """

    min_ess: float = 0.1
    min_retention: float = 0.1
    by: Coverage = "task"
    loss_weight: bool = False

    def __post_init__(self) -> None:
        number("resampling.min_ess", self.min_ess, 0, 1, "a share from 0 to 1", upper=True)
        number("resampling.min_retention", self.min_retention, 0, 1, "a share from 0 to 1", upper=True)
        choice("resampling.by", self.by, COVERAGE)
        truth("resampling.loss_weight", self.loss_weight)
        as_floats(self, "min_ess", "min_retention")
