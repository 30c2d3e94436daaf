"""The split spec: which keys hold episodes together, and how components are dealt out; or which factor is held out. Read from TOML."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from schemas.checks import build, load_toml, number, slug, tables
from schemas.curation import KINDS, DuplicateKind
from schemas.errors import UsageError
from schemas.ids import short_id

Protocol = Literal["values", "range", "composition"]
TRAIN, ID_TEST, OOD, DROPPED = "train", "id_test", "ood_test.", "dropped"


@dataclass(frozen=True, slots=True)
class SharesSpec:
    """Shares of episodes; what is left is train.

    Attributes:
        val: share of validation.
        test: share of test.
    """

    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            number(f"shares.{name}", getattr(self, name), 0, 1, "a share from 0 to below 1")
        if self.val + self.test >= 1:
            raise UsageError(f"shares.val + shares.test is {self.val + self.test:g}; train would be empty")


@dataclass(frozen=True, slots=True)
class FactorSpec:
    """One way in which the test differs from training.

    Attributes:
        factor: an attribute of episodes, dotted (`factors.colour`), a column of `episodes`, or a goal that texts measured
            (`goal.<object>.<state>`, see `pipelines.curate.goals`); of a composition, the first of two.
        protocol: `values` holds out named values, `range` everything above a quantile or number, `composition` pairs of values that
            are each seen in training, but never together.
        hold: the values, or for a composition the pairs, that are held out.
        above: `range`: hold out values above this number.
        quantile: `range`: hold out values above this quantile.
        second: `composition`: the other factor.
        name: the out-of-distribution split is called `ood_test.<name>`; default the factor's name.
    """

    factor: str
    protocol: Protocol = "values"
    hold: tuple[Any, ...] = ()
    above: float | None = None
    quantile: float | None = None
    second: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.protocol not in ("values", "range", "composition"):
            raise UsageError(f"factors.{self.factor}: protocol {self.protocol!r} is unknown; use values, range or composition")
        if self.protocol == "range" and (self.above is None) == (self.quantile is None):
            raise UsageError(f"factors.{self.factor}: a range needs one of above and quantile")
        if self.protocol != "range" and not self.hold:
            raise UsageError(f"factors.{self.factor}: name what to hold out in hold")
        if self.protocol == "composition" and not self.second:
            raise UsageError(f"factors.{self.factor}: a composition needs a second factor")
        if self.protocol == "composition" and any(not isinstance(p, (list, tuple)) or len(p) != 2 for p in self.hold):
            raise UsageError(f"factors.{self.factor}: hold lists pairs, for example [['red', 'left']]")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise UsageError(f"factors.{self.factor}: quantile is {self.quantile}; it lies between 0 and 1")

    @property
    def split(self) -> str:
        """Name of its out-of-distribution split."""
        both = "+".join(f.rsplit(".", 1)[-1] for f in (self.factor, self.second) if f)
        return f"{OOD}{self.name or both}"


@dataclass(frozen=True, slots=True)
class SplitSetSpec:
    """How a selection is split.

    Attributes:
        name: a slug; assignments are stored under it.
        where: a selector as in `catalog.query.select_episodes`.
        by: keys that hold episodes together: columns of `episodes`, or attributes, dotted. Episodes that share any are in one split.
        by_dataset: the same per dataset, in place of `by`: some datasets' scenes are common, others' are not.
        duplicates: kinds of verified near-duplicates whose copies are dropped, so that none is on both sides.
        shares: how much is held out.
        salt: changes which components are held out.
        giant: largest share of the episodes that one component may hold.
        factors: out-of-distribution tests; shares are then of what no factor holds out, and `id_test` is in place of test.
    """

    name: str
    where: str = "all"
    by: tuple[str, ...] = ("split_group",)
    by_dataset: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    duplicates: tuple[DuplicateKind, ...] = ()
    shares: SharesSpec = field(default_factory=SharesSpec)
    salt: str = ""
    giant: float = 0.5
    factors: tuple[FactorSpec, ...] = ()

    def __post_init__(self) -> None:
        slug("name", self.name)
        if unknown := sorted(set(self.duplicates) - set(KINDS)):
            raise UsageError(f"duplicates names {unknown}; there are {', '.join(KINDS)}")
        if not 0 < self.giant <= 1:
            raise UsageError(f"giant is {self.giant}; it is a share above 0, up to 1")
        names = [f.split for f in self.factors]
        if len(set(names)) != len(names):
            raise UsageError(f"two factors make a split of the same name, of {names}; give them names")
        object.__setattr__(self, "by_dataset", {d: tuple(k) for d, k in sorted(self.by_dataset.items())})

    @property
    def hash(self) -> str:
        """Identifies the spec."""
        return short_id("sp", asdict(self))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Build a spec from plain values.

        Raises:
            UsageError: a key is unknown, missing or holds an impossible value; the message names it.
        """
        body = dict(raw)
        body["factors"] = tables(FactorSpec, body.get("factors", ()), "factors")
        if body.get("shares") is not None:
            body["shares"] = build(SharesSpec, body["shares"], "shares")
        return build(cls, body, "")


def load_split(path_or_text: str | Path) -> SplitSetSpec:
    """Read a split spec from a TOML file, or from TOML text (any string with a line break or `=`).

    Raises:
        UsageError: the file is missing, is not TOML, or says something impossible; the message names file and key.
    """
    return load_toml(path_or_text, SplitSetSpec.from_dict, "split")
