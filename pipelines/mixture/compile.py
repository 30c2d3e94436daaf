"""Compiles a mixture spec against the catalog: which episodes, which split, which shares, which order. Writes nothing."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.choose import Chosen, choose_source, weigh, within
from pipelines.mixture.index import Index, build_index
from pipelines.mixture.plan import Phase, Plan, PlanSource, pack_blocks
from pipelines.mixture.scores import ScoreReader
from pipelines.mixture.shares import SourceShare, explain, unit_note, weights_note
from pipelines.mixture.stretches import Stretch, resolve
from pipelines.mixture.units import units_per_draw
from schemas.contract import Contract
from schemas.errors import LakeError
from schemas.ids import digest
from schemas.mixture import MixtureSpec
from schemas.tables import TABLES
from transforms.interleave import PERIOD

CODE = "1"  # raise when the same spec over the same episodes compiles to something else
F64 = npt.NDArray[np.float64]


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
    chosen = [choose_source(catalog, spec, source, pins) for source in spec.sources]
    contracts = contracts_of(
        catalog, pins, {d for c in chosen for d in [*c.train["dataset"].unique(), *c.val["dataset"].unique()]}
    )
    if spec.windows.edge == "drop":
        chosen = [within(lake, c, contracts, spec.windows) for c in chosen]
    if spec.weights:
        scores = ScoreReader(catalog, pins.get("scores"))
        chosen = [weigh(lake, c, scores, spec) for c in chosen]
    index = build_index([part for c in chosen for part in c.parts()])
    per_draw = units_per_draw(lake, spec, chosen, contracts)
    stretches = resolve(spec, [c.items for c in chosen], per_draw)
    plan = _plan(spec, chosen, index, stretches)
    return Compiled(spec, pins, contracts, index, plan, _shares(spec, chosen, plan, stretches, per_draw))


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


def _plan(spec: MixtureSpec, chosen: list[Chosen], index: Index, stretches: list[Stretch]) -> Plan:
    """Return the order; with locality by episodes, or groups, it knows how many items each row of the index holds."""
    rows = spec.group > 1 or (spec.locality is not None and not spec.locality.block_steps)
    sources = [
        PlanSource(c.spec.name, c.id(), c.items, pack_blocks(index.row_items(c.spec.name, "train")) if rows else "")
        for c in chosen
    ]
    phases = tuple(Phase(s.samples, tuple(s.quotas.tolist())) for s in stretches)
    return Plan(spec.seed, tuple(sources), phases, spec.locality, spec.group)


def _shares(
    spec: MixtureSpec, chosen: list[Chosen], plan: Plan, stretches: list[Stretch], per_draw: list[float]
) -> tuple[SourceShare, ...]:
    """Describe each source over the whole mixture; of several stretches, the mean by samples."""
    counts, parts = plan.counts(), np.asarray([s.samples for s in stretches]) / spec.samples
    asked, plain, target = (parts @ np.stack([getattr(s, what) for s in stretches]) for what in ("asked", "plain", "target"))
    period = PERIOD if len(stretches) == 1 else spec.samples  # no single period holds several stretches but the mixture itself
    quotas = stretches[0].quotas if len(stretches) == 1 else counts
    units = np.asarray(per_draw)
    target, realised = _of_units(target, units), _of_units(counts / spec.samples, units)
    shared = _shared(chosen)
    rows: list[SourceShare] = []
    for i, c in enumerate(chosen):
        cap = math.inf if c.spec.max_epochs is None else c.spec.max_epochs * c.items / spec.samples
        values: dict[str, Any] = {
            "name": c.spec.name, "where": c.spec.selector, "asked": float(asked[i]), "temperature_share": float(plain[i]),
            "target": float(target[i]), "quota": int(quotas[i]), "period": period, "draws": int(counts[i]),
            "realised": float(realised[i]), "episodes": c.train["episode_id"].n_unique(), "steps": c.steps, "epochs": int(counts[i]) / c.items,
            "max_epochs": c.spec.max_epochs, "floor": c.spec.floor, "val_episodes": len(c.val), "val_steps": int(c.val["steps"].sum()),
            "shared": shared[i], "items": c.items, "per_draw": per_draw[i], "modality": c.spec.modality, "route": c.spec.route,
            "ess": c.weighted.ess if c.weighted else 1.0, "kept": c.weighted.kept if c.weighted else 1.0,
        }  # fmt: skip
        capped = cap * per_draw[i] / float(counts / spec.samples @ units)
        note = explain(float(plain[i]), float(target[i]), capped, c.spec.floor, c.spec.max_epochs, shared[i])
        rows.append(
            SourceShare(
                **values, note="; ".join(n for n in (note, weights_note(c.weighted), unit_note(spec.unit, per_draw[i])) if n)
            )
        )
    return tuple(rows)


def _of_units(shares: F64, per_draw: F64) -> F64:
    """Turn shares of draws into shares of a unit."""
    amounts = shares * per_draw
    return shares if (per_draw == 1).all() else amounts / amounts.sum()


def _shared(chosen: list[Chosen]) -> list[int]:
    """Return how many train episodes of each source are also in another."""
    ids = [c.train["episode_id"].unique() for c in chosen]
    if len(ids) == 1:
        return [0]
    owners = pl.concat(ids).value_counts().filter(pl.col("count") > 1)["episode_id"]
    return [int(mine.is_in(owners.implode()).sum()) for mine in ids]
