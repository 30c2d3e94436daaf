"""Splits a selection so that nothing is on both sides: components of shared keys, dealt out by hash; factors held out.

What was assigned once stays where it is when episodes are added. Where two components turn out to be one, that is a *split break*, and
it is written down.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.curate.factors import FactorSplit, hold_out, value_of
from pipelines.curate.frame import clusters, current_pairs
from pipelines.curate.goals import with_goals
from pipelines.selection import choose
from pipelines.unit import Output, Unit
from schemas.curation import DuplicateSpec
from schemas.errors import LeakageError, UnknownNameError, UsageError
from schemas.ids import digest, short_id, unit_id
from schemas.split import DROPPED, ID_TEST, OOD, TRAIN, SplitSetSpec
from transforms.splits import deal, draws
from transforms.unionfind import shared_keys

CODE = "1"
COLUMNS = ("episode_id", "dataset", "split", "component", "note")


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a split spec assigns: `rows` with the columns `COLUMNS`, and how it went, in numbers."""

    rows: pl.DataFrame
    components: int
    giant: float
    breaks: int

    @property
    def shares(self) -> dict[str, float]:
        """Realised share of the episodes per split, dropped ones left out."""
        counts = Counter(s for s in self.rows["split"].to_list() if s != DROPPED)
        return {name: n / counts.total() for name, n in sorted(counts.items())}


@dataclass(frozen=True, slots=True)
class SplitStage:
    """Store what a split spec assigns: one unit; the same assignment is stored once."""

    lake: Lake
    spec: SplitSetSpec
    name: str = "split"

    def plan(self) -> list[Unit]:
        """One unit: what is assigned now, given what was assigned before."""
        assigned = assign(self.lake, self.spec)
        basis = digest([self.spec.hash, assigned.rows.select("episode_id", "split", "component").rows()])[:20]
        name = unit_id(self.name, basis, self.spec.name, CODE)
        label = f"split {self.spec.name}: {assigned.rows.height} episodes"
        return [Unit(name, self.name, "", label, (assigned, basis), episodes=assigned.rows.height)]

    def work(self, unit: Unit) -> Output:
        """Write the assignments."""
        assigned, basis = unit.payload
        said = {"name": self.spec.name, "spec_hash": self.spec.hash, "basis": basis}
        rows = [row | said for row in assigned.rows.to_dicts()]
        before = stored(self.lake, self.spec.name)
        gone = before.filter(pl.col("split") != DROPPED).join(assigned.rows, on="episode_id", how="anti")
        rows += [
            {"episode_id": e, "dataset": d, "split": DROPPED, "component": c, "note": f"no longer chosen by {self.spec.where!r}"}
            | said
            for e, d, c in gone.select("episode_id", "dataset", "component").iter_rows()
        ]
        return Output((), {"splits": pa.Table.from_pylist(rows)}, (), len(rows))


def split_assignments(lake: Lake, name: str) -> pl.DataFrame:
    """Return the stored split called `name`: `episode_id`, `split`, `component`; dropped copies are left out.

    Raises:
        UnknownNameError: no split of that name is stored.
    """
    rows = stored(lake, name)
    if rows.is_empty():
        known = Catalog(lake).latest("splits").select("name").unique().collect()["name"].sort().to_list()
        raise UnknownNameError(
            f"there is no split called {name!r}; there are {', '.join(known) or 'none: run `cotrain curate split`'}"
        )
    return rows.filter(pl.col("split") != DROPPED).select("episode_id", "split", "component")


def stored(lake: Lake, name: str) -> pl.DataFrame:
    """Return every stored row of a split, dropped ones too."""
    return Catalog(lake).latest("splits").filter(pl.col("name") == name).collect()


def assign(lake: Lake, spec: SplitSetSpec) -> Assigned:
    """Assign every chosen episode without writing.

    Raises:
        UsageError: the selection is empty, or a key or factor does not exist.
        LeakageError: one component holds more than `spec.giant` of the episodes.
        CoverageError: a factor leaves nothing to train on, or a composition whose margins training does not see.
    """
    episodes = choose(lake, spec.where).episodes.sort("dataset", "key", "episode_id")
    check_columns(episodes, spec)
    episodes = with_goals(Catalog(lake), episodes, [f for one in spec.factors for f in (one.factor, one.second)])
    before = stored(lake, spec.name)
    old = dict(before.filter(pl.col("spec_hash") == spec.hash).select("episode_id", "split").iter_rows())
    dropped = _copies(Catalog(lake), episodes, spec, old)
    rows = episodes.filter(~pl.col("episode_id").is_in(list(dropped)))
    root = shared_keys([_keys(row, spec) for row in rows.iter_rows(named=True)]).tolist()
    sizes = Counter(root)
    giant = max(sizes.values()) / rows.height
    if giant > spec.giant and rows.height > 1:
        raise LeakageError(_giant(rows, root, giant, spec))
    ids = rows["episode_id"].to_list()
    held = hold_out(rows, spec.factors)
    split, note = _dealt(ids, root, spec, old, held)
    names = _component_names(ids, root)
    told = [
        {"episode_id": e, "dataset": d, "split": split[e], "component": names[r], "note": note.get(e)}
        for e, d, r in zip(ids, rows["dataset"], root, strict=True)
    ]
    gone = episodes.filter(pl.col("episode_id").is_in(list(dropped))).select("episode_id", "dataset").iter_rows()
    told += [{"episode_id": e, "dataset": d, "split": DROPPED, "component": None, "note": dropped[e]} for e, d in gone]
    check_no_shared_keys(rows, split, spec)
    held.check(rows, split)
    frame = pl.DataFrame(told, schema=dict.fromkeys(COLUMNS, pl.String)).sort("episode_id")
    return Assigned(frame, len(sizes), giant, sum("split break" in (n or "") for n in frame["note"]))


def _dealt(
    ids: list[str], root: list[int], spec: SplitSetSpec, old: Mapping[str, str], held: FactorSplit
) -> tuple[dict[str, str], dict[str, str]]:
    """Return each episode's split and what is to be noted about it."""
    members: dict[int, list[str]] = {}
    for e, r in zip(ids, root, strict=True):
        members.setdefault(r, []).append(e)
    split, note = dict[str, str](), dict[str, str]()
    free: list[list[str]] = []
    for group in members.values():
        if not any(e in held.split for e in group):
            free.append(group)
            continue
        for e in group:  # what shares a key with a held-out episode is not trained on either
            split[e] = held.split.get(e, DROPPED)
            note[e] = held.why.get(e, "shares a key with a held-out episode")
    fixed: dict[int, str] = {}
    for i, group in enumerate(free):
        known = sorted({old[e] for e in group if old.get(e, DROPPED) != DROPPED})
        if len(known) == 1:
            fixed[i] = known[0]
        elif known:
            fixed[i] = TRAIN
            note |= {e: f"split break: components in {', '.join(known)} are one now" for e in group if old.get(e, TRAIN) != TRAIN}
    test = ID_TEST if spec.factors else "test"
    shares = {test: spec.shares.test, "val": spec.shares.val}
    dealt = deal([len(g) for g in free], draws(free, spec.salt), shares, fixed)
    split |= {e: s for group, s in zip(free, dealt, strict=True) for e in group}
    return split, note


def _keys(row: Mapping[str, Any], spec: SplitSetSpec) -> list[str]:
    """Return what holds an episode together with others: one text per key it has; itself where it has none."""
    wanted = spec.by_dataset.get(row["dataset"], spec.by)
    values = {key: value_of(row, key) for key in wanted}
    return [f"{row['dataset']}/{k}={v}" for k, v in values.items() if v is not None] or [row["episode_id"]]


def _copies(catalog: Catalog, episodes: pl.DataFrame, spec: SplitSetSpec, old: Mapping[str, str]) -> dict[str, str]:
    """Return the copies to drop and why: of each cluster of duplicates one stays, the one that is assigned already, else the first."""
    if not spec.duplicates:
        return {}
    ids = episodes["episode_id"].to_list()
    place = {e: i for i, e in enumerate(ids)}
    found: dict[str, str] = {}
    for group in clusters(ids, current_pairs(catalog, episodes, DuplicateSpec(spec.duplicates))):
        keeper = min(group, key=lambda e: (old.get(e, DROPPED) == DROPPED, old.get(e) != TRAIN, place[e]))
        for e in group:
            if e != keeper:
                broken = "split break: " if old.get(e, DROPPED) != DROPPED else ""
                found[e] = f"{broken}near-duplicate of {keeper}"
    return found


def _component_names(ids: list[str], root: list[int]) -> dict[int, str]:
    first: dict[int, str] = {}
    for e, r in zip(ids, root, strict=True):
        first[r] = min(e, first.get(r, e))
    return {r: short_id("co", e) for r, e in first.items()}


def _giant(rows: pl.DataFrame, root: list[int], giant: float, spec: SplitSetSpec) -> str:
    largest = Counter(root).most_common(1)[0][0]
    inside = rows.filter(pl.Series([r == largest for r in root]))
    counted = Counter(k for row in inside.iter_rows(named=True) for k in _keys(row, spec))
    worst = ", ".join(f"{k} ({n})" for k, n in counted.most_common(3))
    return (
        f"split {spec.name}: one component holds {giant:.0%} of {rows.height} episodes, more than {spec.giant:.0%}: its most common keys are "
        f"{worst}. Leave a key out of `by` (or out of `by_dataset` for that dataset), or raise `giant` if that is how the data is"
    )


def check_no_shared_keys(rows: pl.DataFrame, split: Mapping[str, str], spec: SplitSetSpec) -> None:
    """Check that no key is in two splits, other than two tests of different factors: neither is trained on.

    Raises:
        LeakageError: one is.
    """
    seen: dict[str, str] = {}
    for row in rows.iter_rows(named=True):
        mine = split.get(row["episode_id"], DROPPED)
        if mine == DROPPED:
            continue
        for key in _keys(row, spec):
            other = seen.setdefault(key, mine)
            if other != mine and not (other.startswith(OOD) and mine.startswith(OOD)):
                raise LeakageError(f"{key} is in {other} and in {mine}; nothing may be in two splits")


def check_columns(episodes: pl.DataFrame, spec: SplitSetSpec) -> None:
    """Check that every key is known to some episode.

    Raises:
        UsageError: one is not.
    """
    for key in dict.fromkeys((*spec.by, *(k for keys in spec.by_dataset.values() for k in keys))):
        if all(value_of(row, key) is None for row in episodes.iter_rows(named=True)):
            raise UsageError(
                f"split {spec.name}: no chosen episode has {key!r}; name a column of episodes or an attribute, dotted"
            )
