"""What two mixtures do not share: keys of their specs, sources, shares, episodes, order."""

from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from pipelines.mixture.compile import Compiled
from pipelines.mixture.manifest import Mixture
from pipelines.mixture.shares import SourceShare

FIGURES = ("asked", "target", "realised", "draws", "episodes", "steps", "items", "epochs", "val_episodes")


@dataclass(frozen=True, slots=True)
class Side:
    """One of two mixtures, pinned or just compiled."""

    label: str
    hash: str
    plan: str
    spec: dict[str, Any]
    shares: dict[str, SourceShare]
    ids: dict[str, str]
    members: pl.DataFrame

    @classmethod
    def of(cls, found: Mixture | Compiled) -> Self:
        """Read what is compared."""
        members = found.index.frame().select("source", "split", "episode_id").unique()
        ids = {s.name: s.id for s in found.plan.sources}
        shares = {s.name: s for s in found.shares}
        label = f"{found.spec.name}@{found.hash[:12]}"
        return cls(label, found.hash, found.plan.hash, flat(found.spec.to_dict()), shares, ids, members)


@dataclass(frozen=True, slots=True)
class Difference:
    """How `b` differs from `a`.

    Attributes:
        a: label of the first.
        b: label of the second.
        same: both are the same mixture.
        same_order: both draw the same items at every position.
        spec: keys of the spec with both values; None: absent.
        sources: per source, `figure: (a, b)` where they differ; a source that one side lacks has only `only`.
        episodes: per source and split, how many episodes only one side has.
        order: per shared source, whether its own order is the same.
    """

    a: str
    b: str
    same: bool
    same_order: bool
    spec: dict[str, tuple[Any, Any]]
    sources: dict[str, dict[str, tuple[Any, Any]]]
    episodes: dict[str, tuple[int, int]]
    order: dict[str, bool]

    @property
    def text(self) -> str:
        """The difference for people."""
        if self.same:
            return f"{self.a} and {self.b} are the same mixture"
        lines = [f"{self.a} -> {self.b}" + (" (the same order)" if self.same_order else "")]
        lines += [f"  {key}: {_say(a)} -> {_say(b)}" for key, (a, b) in self.spec.items()]
        for name, figures in self.sources.items():
            lines += [f"  source {name} {figure}: {_say(a)} -> {_say(b)}" for figure, (a, b) in figures.items()]
        lines += [f"  {name}: {lost} episodes gone, {new} new" for name, (lost, new) in self.episodes.items()]
        lines += [f"  source {name}: its items come in another order" for name, same in self.order.items() if not same]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}


def compare(first: Mixture | Compiled, second: Mixture | Compiled) -> Difference:
    """Compare two mixtures."""
    a, b = Side.of(first), Side.of(second)
    sources: dict[str, dict[str, tuple[Any, Any]]] = {}
    for name in [*a.shares, *(n for n in b.shares if n not in a.shares)]:
        changed = _figures(a.shares.get(name), b.shares.get(name))
        if changed:
            sources[name] = changed
    shared = [n for n in a.ids if n in b.ids]
    order = {n: a.ids[n] == b.ids[n] and first.plan.seed == second.plan.seed for n in shared}
    spec = {k: (a.spec.get(k), b.spec.get(k)) for k in [*a.spec, *(k for k in b.spec if k not in a.spec)]}
    changes = {k: (x, y) for k, (x, y) in spec.items() if x != y}
    return Difference(a.label, b.label, a.hash == b.hash, a.plan == b.plan, changes, sources, _moved(a.members, b.members), order)


def flat(body: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested spec as `key.key` to value; sources by their names."""
    if isinstance(body, dict):
        return {k: v for key, value in body.items() for k, v in flat(value, f"{prefix}.{key}" if prefix else key).items()}
    if isinstance(body, (list, tuple)) and body and all(isinstance(b, dict) for b in body):
        named = ((one.get("name", str(number)), one) for number, one in enumerate(body))
        return {
            k: v
            for name, one in named
            for k, v in flat({n: w for n, w in one.items() if n != "name"}, f"{prefix}.{name}").items()
        }
    return {prefix: list(body) if isinstance(body, tuple) else body}


def _figures(a: SourceShare | None, b: SourceShare | None) -> dict[str, tuple[Any, Any]]:
    if a is None or b is None:
        share = a or b
        assert share is not None
        return {"realised": (a.realised if a else None, b.realised if b else None)}
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in FIGURES}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _moved(a: pl.DataFrame, b: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Count, per source and split, episodes of the one that the other lacks there."""
    keys = ["source", "split", "episode_id"]
    lost, new = (x.join(y, on=keys, how="anti").group_by("source", "split").len() for x, y in ((a, b), (b, a)))
    both = lost.join(new, on=["source", "split"], how="full", coalesce=True, suffix="_new").sort("source", "split").fill_null(0)
    return {f"source {s}, {split}": (n, m) for s, split, n, m in both.iter_rows()}


def _say(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
