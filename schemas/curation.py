"""The curation spec: which gates an episode must pass, which copy of a duplicate stays, and what must not be lost; read from TOML.

What it decides is computed in `pipelines.curate`; the split spec is `schemas.split`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from schemas.checks import build, load_toml, number, slug, tables
from schemas.errors import UsageError
from schemas.ids import short_id

Missing = Literal["keep", "reject"]
DuplicateKind = Literal["exact", "visual", "trajectory"]
KINDS: tuple[DuplicateKind, ...] = ("exact", "visual", "trajectory")
Scope = Literal["", "task", "dataset", "split_group", "embodiment"]


@dataclass(frozen=True, slots=True)
class GateSpec:
    """One gate. Either a score and one limit, or a condition in SQL; an episode for which it holds is rejected.

    Attributes:
        score: a quality score (`sparc`), a lint (`lint.flags`), or the method of an imported score.
        below: reject values below this.
        above: reject values above this.
        z_below: reject values whose robust z (median and median absolute deviation within `within`) is below this.
        z_above: reject values whose robust z is above this.
        worst: reject this share with the worst values within `within`.
        within: group of z and `worst`: `task`, `dataset`, ...; empty compares with every chosen episode.
        sql: a condition over the columns of `episodes` and one column per score.
        reason: what to write down for a rejected episode.
        missing: what happens to an episode that has no value.
        fingerprint: which version of the score; empty takes the newest.
    """

    score: str = ""
    below: float | None = None
    above: float | None = None
    z_below: float | None = None
    z_above: float | None = None
    worst: float | None = None
    within: Scope = "task"
    sql: str = ""
    reason: str = ""
    missing: Missing = "keep"
    fingerprint: str = ""

    def __post_init__(self) -> None:
        limits = [n for n in ("below", "above", "z_below", "z_above", "worst") if getattr(self, n) is not None]
        if self.sql and (self.score or limits):
            raise UsageError(f"gate {self.name}: sql says it all; leave out score and {', '.join(limits) or 'limits'}")
        if not self.sql and (not self.score or not limits):
            raise UsageError(f"gate {self.name}: give a score and one of below, above, z_below, z_above, worst; or sql")
        for name in limits:
            number(f"gate {self.name}: {name}", getattr(self, name), -math.inf, math.inf, "a number")
        if self.worst is not None and not 0 < self.worst < 1:
            raise UsageError(f"gate {self.name}: worst is {self.worst}; it is a share between 0 and 1")
        _choice(f"gate {self.name}: missing", self.missing, ("keep", "reject"))
        _choice(f"gate {self.name}: within", self.within, ("", "task", "dataset", "split_group", "embodiment"))

    @property
    def name(self) -> str:
        """What the gate is called in decisions."""
        return self.score or "sql"


@dataclass(frozen=True, slots=True)
class DuplicateSpec:
    """Which copy of a near-duplicate stays.

    Attributes:
        kinds: which verified pairs count.
        keep: the score whose best value stays; empty keeps the first by dataset and key.
        least: smallest similarity that counts, in 0..1.
    """

    kinds: tuple[DuplicateKind, ...] = KINDS
    keep: str = ""
    least: float = 0.0

    def __post_init__(self) -> None:
        if not self.kinds:
            raise UsageError(f"duplicates.kinds is empty; name some of {', '.join(KINDS)}, or remove [duplicates]")
        for kind in self.kinds:
            _choice("duplicates.kinds", kind, KINDS)
        if not 0 <= self.least <= 1:
            raise UsageError(f"duplicates.least is {self.least}; it is a similarity from 0 to 1")


@dataclass(frozen=True, slots=True)
class CoverageSpec:
    """What a curation must not lose.

    Attributes:
        retention: least share of episodes kept of each task, scene and embodiment.
        entropy_drop: most that the entropy of tasks, scenes or embodiments may fall, in nats.
        by: the columns of `episodes` that are guarded.
        least: groups of fewer episodes than this are guarded together, as one: a share of two episodes says nothing.
    """

    retention: float = 0.5
    entropy_drop: float = 0.1
    by: tuple[str, ...] = ("task", "split_group", "embodiment")
    least: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.retention <= 1:
            raise UsageError(f"coverage.retention is {self.retention}; it is a share from 0 to 1")
        if not self.entropy_drop >= 0:
            raise UsageError(f"coverage.entropy_drop is {self.entropy_drop}; it is 0 or more nats")


@dataclass(frozen=True, slots=True)
class CurationSpec:
    """Which of the chosen episodes to keep.

    Attributes:
        name: a slug; decisions are stored under it.
        where: a selector as in `catalog.query.select_episodes`.
        gates: in this order; the first that fails is the reason.
        duplicates: None leaves duplicates in.
        coverage: what must not be lost.
    """

    name: str
    where: str = "all"
    gates: tuple[GateSpec, ...] = ()
    duplicates: DuplicateSpec | None = None
    coverage: CoverageSpec = field(default_factory=CoverageSpec)

    def __post_init__(self) -> None:
        slug("name", self.name)
        if not self.gates and self.duplicates is None:
            raise UsageError("the curation has no gate; add [[gates]] or [duplicates]")

    @property
    def hash(self) -> str:
        """Identifies the spec."""
        return short_id("cu", asdict(self))

    @property
    def scores(self) -> tuple[str, ...]:
        """Every score that a gate or the keep policy names."""
        named = [g.score for g in self.gates if g.score] + ([self.duplicates.keep] if self.duplicates else [])
        return tuple(dict.fromkeys(n for n in named if n))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Build a spec from plain values.

        Raises:
            UsageError: a key is unknown, missing or holds an impossible value; the message names it.
        """
        body = dict(raw)
        body["gates"] = tables(GateSpec, body.get("gates", ()), "gates")
        for key, kind in (("duplicates", DuplicateSpec), ("coverage", CoverageSpec)):
            if body.get(key) is not None:
                body[key] = build(kind, body[key], key)
        return build(cls, body, "")


def load_curation(path_or_text: str | Path) -> CurationSpec:
    """Read a curation spec from a TOML file, or from TOML text (any string with a line break or `=`).

    Raises:
        UsageError: the file is missing, is not TOML, or says something impossible; the message names file and key.
    """
    return load_toml(path_or_text, CurationSpec.from_dict, "curation")


def _choice(key: str, value: Any, known: tuple[str, ...]) -> None:
    """Check that a value is one of `known`; quoted in the message, as one of them may be empty."""
    if value not in known:
        raise UsageError(f"{key} is {value!r}; it must be one of {', '.join(map(repr, known))}")
