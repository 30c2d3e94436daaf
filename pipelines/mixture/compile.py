"""Compiles a mixture spec against the catalog: which episodes, which split, which shares, which order. Writes nothing."""

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from catalog.query import select_episodes
from catalog.tables import Catalog
from pipelines.loader.episode import EpisodeView
from pipelines.loader.fields import fields_of, reach_of
from pipelines.mixture.index import Index, Split, build_index
from pipelines.mixture.plan import Phase, Plan, PlanSource, pack_blocks
from pipelines.mixture.shares import SourceShare, explain
from pipelines.shards.reader import open_shard
from schemas.contract import Contract
from schemas.errors import InfeasibleMixtureError, LakeError, UsageError
from schemas.ids import digest, short_id
from schemas.mixture import MixtureSpec, PhaseSpec, SourceSpec, WindowSpec
from schemas.tables import TABLES
from transforms.interleave import PERIOD, interleave, quantise
from transforms.shares import fill_shares
from transforms.splits import held_out
from transforms.windows import whole_anchors

CODE = "1"  # raise when the same spec over the same episodes compiles to something else
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
_SHARES = ("asked", "plain", "target")


@dataclass(frozen=True)
class Compiled:
    """A spec and everything it resolves to. Equal content gives an equal `hash`, whatever the catalog's versions."""

    spec: MixtureSpec
    pins: dict[str, int | None]
    contracts: dict[str, Contract]
    index: Index
    plan: Plan
    shares: tuple[SourceShare, ...]

    @cached_property
    def index_digest(self) -> str:
        """Hash of the index's rows."""
        return self.index.digest()

    @cached_property
    def hash(self) -> str:
        """Identifies the mixture."""
        return mixture_hash(CODE, self.spec.to_dict(), plain_contracts(self.contracts), self.plan.to_dict(), self.index_digest)


@dataclass(frozen=True, slots=True)
class _Chosen:
    spec: SourceSpec
    train: pl.DataFrame
    val: pl.DataFrame

    @property
    def items(self) -> int:
        return int(self.train["steps"].sum())

    def parts(self) -> list[tuple[str, Split, pl.DataFrame]]:
        return [(self.spec.name, "train", self.train), (self.spec.name, "val", self.val)]


def mixture_hash(code: str, spec: dict[str, Any], contracts: dict[str, Any], plan: dict[str, Any], index_digest: str) -> str:
    """Hash what a mixture says: spec, contracts, order and index, as the plain values a manifest holds.

    Plain values, so that a manifest stays verifiable when a later version adds fields. Source ids inside the plan stand for the
    episodes' content.
    """
    return digest([code, spec, contracts, plan, index_digest])[:20]


def plain_contracts(contracts: dict[str, Contract]) -> dict[str, Any]:
    """Return contracts as the JSON values a manifest holds."""
    return {name: json.loads(contract.to_json()) for name, contract in contracts.items()}


def compile_mixture(lake: Lake, spec: MixtureSpec) -> Compiled:
    """Resolve `spec` at the catalog's present versions.

    Raises:
        UsageError: a selector does not parse or chooses nothing, or a source is left without a train step.
        InfeasibleMixtureError: weights, caps and floors cannot all hold; the message says what would.
    """
    catalog = Catalog(lake)
    pins = {name: catalog.version(name) for name in TABLES}
    chosen = [_choose(catalog, spec, source, pins) for source in spec.sources]
    contracts = contracts_of(
        catalog, pins, {d for c in chosen for d in [*c.train["dataset"].unique(), *c.val["dataset"].unique()]}
    )
    if spec.windows.edge == "drop":
        chosen = [_within(lake, c, contracts, spec.windows) for c in chosen]
    index = build_index([part for c in chosen for part in c.parts()])
    stretches = _stretches(spec, [c.items for c in chosen])
    episodes = spec.locality is not None and not spec.locality.block_steps
    sources = tuple(
        PlanSource(c.spec.name, _source_id(c), c.items, pack_blocks(c.train["steps"].to_numpy()) if episodes else "")
        for c in chosen
    )
    plan = Plan(spec.seed, sources, tuple(Phase(p.samples, tuple(p.quotas.tolist())) for p in stretches), spec.locality)
    return Compiled(spec, pins, contracts, index, plan, _shares(spec, chosen, plan, stretches))


def _choose(catalog: Catalog, spec: MixtureSpec, source: SourceSpec, pins: dict[str, int | None]) -> _Chosen:
    try:
        rows = select_episodes(catalog, source.selector, pins)
    except UsageError as error:
        raise UsageError(f"source {source.name}: {error}") from error
    groups = rows[spec.split.by].fill_null(rows["episode_id"]).to_list()
    held = pl.Series(held_out(groups, spec.split.val, spec.split.salt))
    rows = rows.select("episode_id", "dataset", "shard", "first_row", "steps", "content_hash")
    found = _Chosen(source, rows.filter(~held), rows.filter(held))
    if found.items == 0:
        why = f"all {len(rows)} episodes are held out (split.val = {spec.split.val:g}); lower it or change split.salt"
        raise UsageError(f"source {source.name}: no train step: {why if len(found.val) else 'its episodes have no steps'}")
    return found


def _within(lake: Lake, chosen: _Chosen, contracts: dict[str, Contract], windows: WindowSpec) -> _Chosen:
    found = replace(
        chosen,
        train=whole_windows(lake, chosen.train, contracts, windows),
        val=whole_windows(lake, chosen.val, contracts, windows),
    )
    if found.items == 0:
        raise UsageError(
            f"source {chosen.spec.name}: with windows.edge = 'drop' no step is left, every window leaves its episode; shorten the "
            "windows or choose another edge"
        )
    return found


def whole_windows(lake: Lake, rows: pl.DataFrame, contracts: dict[str, Contract], windows: WindowSpec) -> pl.DataFrame:
    """Cut `first_row` and `steps` of episodes down to the steps whose every window lies inside; episodes without one go.

    Raises:
        UsageError: a window cannot be resolved for a dataset; see `pipelines.loader.fields.fields_of`.
    """
    reach = {name: reach_of(fields_of(contract, windows)) for name, contract in contracts.items()}
    first, steps = list[int](), list[int]()
    for row in rows.iter_rows(named=True):
        view = EpisodeView(open_shard(lake, row["dataset"], row["shard"]), row["episode_id"])
        start, stop = whole_anchors(view.t_ns, reach[row["dataset"]], hold_ns=view.period_ns, match=windows.match)
        first.append(row["first_row"] + start)
        steps.append(stop - start)
    cut = rows.with_columns(first_row=pl.Series(first, dtype=pl.Int64), steps=pl.Series(steps, dtype=pl.Int64))
    return cut.filter(pl.col("steps") > 0)


def contracts_of(catalog: Catalog, pins: dict[str, int | None], datasets: set[str]) -> dict[str, Contract]:
    """Return the contract of each dataset, by name.

    Raises:
        LakeError: the catalog has no row for a dataset.
    """
    rows = catalog.latest("datasets", pins.get("datasets")).filter(pl.col("dataset").is_in(sorted(datasets))).collect()
    found = {r["dataset"]: Contract.from_json(r["contract"]) for r in rows.iter_rows(named=True)}
    if missing := sorted(datasets - set(found)):
        raise LakeError(f"the catalog has episodes of {missing} but no row in `datasets`; ingest them again")
    return dict(sorted(found.items()))


def _source_id(chosen: _Chosen) -> str:
    rows = chosen.train.select("episode_id", "content_hash", "steps")
    return short_id("src", [chosen.spec.name, [rows[c].to_list() for c in rows.columns]])


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One phase: shares as asked, with sizes counted in, and after caps and floors; and the quotas that stand for the last."""

    samples: int
    asked: F64
    plain: F64
    target: F64
    quotas: I64


def _stretches(spec: MixtureSpec, items: list[int]) -> list[_Stretch]:
    """Resolve each phase in turn: what a capped source has given in one is missing in the next."""
    used = np.zeros(len(items), np.int64)
    found: list[_Stretch] = []
    for phase in spec.phases or (PhaseSpec(spec.samples, {s.name: s.weight for s in spec.sources}),):
        found.append(_stretch(spec, phase, items, used))
        used = used + interleave(tuple(found[-1].quotas.tolist())).counts(phase.samples)
    return found


def _stretch(spec: MixtureSpec, phase: PhaseSpec, items: list[int], used: I64) -> _Stretch:
    sizes = np.asarray(items, np.float64)
    asked = np.asarray([phase.weights.get(s.name, 0.0) for s in spec.sources])
    weights = np.where(asked > 0, asked * sizes**spec.temperature, 0.0)
    plain = weights / weights.sum()
    caps = np.asarray([math.inf if s.max_epochs is None else s.max_epochs for s in spec.sources]) - used / sizes
    floors = np.where(asked > 0, [s.floor for s in spec.sources], 0.0)
    target = fill_shares([s.name for s in spec.sources], plain, sizes, phase.samples, np.maximum(caps, 0), floors)
    most = [
        _most_slots(s, n, int(u), phase.samples) if w else 0 for s, n, u, w in zip(spec.sources, items, used, asked, strict=True)
    ]
    least = np.ceil(floors * PERIOD - 1e-9).astype(np.int64)
    return _Stretch(phase.samples, asked / asked.sum(), plain, target, quantise(target, least=least, most=most))


def _most_slots(source: SourceSpec, items: int, used: int, samples: int) -> int:
    """Slots of the period that keep a source within its cap: rounded down, so that a cap holds to the draw."""
    if source.max_epochs is None:
        return PERIOD
    supply = int(source.max_epochs * items + 1e-6) - used
    if supply <= 0:
        raise InfeasibleMixtureError(
            f"source {source.name}: earlier phases draw all {used} samples its cap allows; raise max_epochs, or leave it out of the "
            "later phases"
        )
    slots = min(supply * PERIOD // samples, PERIOD)
    if slots == 0:
        raise InfeasibleMixtureError(
            f"source {source.name}: its cap allows {supply} of {samples} draws, less than the smallest share of 1 in {PERIOD}; "
            f"lower samples to {supply * PERIOD}, raise max_epochs, or merge it with another source"
        )
    return slots


def _shares(spec: MixtureSpec, chosen: list[_Chosen], plan: Plan, stretches: list[_Stretch]) -> tuple[SourceShare, ...]:
    """Describe each source over the whole mixture; of several phases, the mean by samples."""
    counts, parts = plan.counts(), np.asarray([p.samples for p in stretches]) / spec.samples
    asked, plain, target = (parts @ np.stack([getattr(p, what) for p in stretches]) for what in _SHARES)
    period = PERIOD if len(stretches) == 1 else spec.samples  # no single period holds several phases but the mixture itself
    quotas = stretches[0].quotas if len(stretches) == 1 else counts
    owners = Counter(e for c in chosen for e in c.train["episode_id"].to_list())
    rows: list[SourceShare] = []
    for i, c in enumerate(chosen):
        cap = math.inf if c.spec.max_epochs is None else c.spec.max_epochs * c.items / spec.samples
        shared = sum(owners[e] > 1 for e in c.train["episode_id"].to_list())
        values: dict[str, Any] = {
            "name": c.spec.name, "where": c.spec.selector, "asked": float(asked[i]), "temperature_share": float(plain[i]),
            "target": float(target[i]), "quota": int(quotas[i]), "period": period, "draws": int(counts[i]),
            "realised": int(counts[i]) / spec.samples, "episodes": len(c.train), "steps": c.items, "epochs": int(counts[i]) / c.items,
            "max_epochs": c.spec.max_epochs, "floor": c.spec.floor, "val_episodes": len(c.val), "val_steps": int(c.val["steps"].sum()),
            "shared": shared,
        }  # fmt: skip
        note = explain(float(plain[i]), float(target[i]), cap, c.spec.floor, c.spec.max_epochs, shared)
        rows.append(SourceShare(**values, note=note))
    return tuple(rows)
