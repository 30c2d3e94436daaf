"""The export stage: chooses episodes, hands each dataset to a format's exporter, and makes the result visible in one step.

One dataset of the lake becomes one dataset of the export, because episodes of one export share one contract. A folder is either
absent or complete: see `pipelines.exporters.destination`. Large datasets are written in parts, which workers share; see `PartsStage`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import language_rows
from pipelines.exporters.base import ExportEpisode, Exporter, ExportJob, ExportOptions
from pipelines.exporters.dense import find_dense, with_features
from pipelines.exporters.destination import Destination
from pipelines.exporters.gates import check_licences, check_splits
from pipelines.exporters.grid import check_holdable
from pipelines.exporters.parts import cut, finish_part, is_parted
from pipelines.exporters.push import push
from pipelines.exporters.registry import EXPORTERS
from pipelines.exporters.side_tables import write_side_tables
from pipelines.exporters.splits import assign, split_order
from pipelines.selection import Selection, choose
from pipelines.shards.reader import open_shard
from pipelines.unit import Output, Unit, pending
from schemas.contract import Contract
from schemas.errors import LakeError, UsageError
from schemas.ids import digest, unit_id

CODE = "1"


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """One dataset to export, by reference: everything needed to build the job again, as JSON."""

    format: str
    dataset: str
    folder: str
    episode_ids: tuple[str, ...]
    options: dict[str, Any]
    mixture: str | None = None
    mixture_hash: str | None = None
    pins: dict[str, int | None] = field(default_factory=dict[str, int | None])

    def to_json(self) -> str:
        """Return the JSON text kept in the `publications` table."""
        return json.dumps(asdict(self))

    @property
    def export_options(self) -> ExportOptions:
        """The options as the exporter takes them."""
        raw: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}
        return ExportOptions(**raw)

    @classmethod
    def from_json(cls, text: str) -> "ExportPlan":
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**raw | {"episode_ids": tuple(raw["episode_ids"])})


@dataclass(frozen=True, slots=True)
class ExportStage:
    """Export a mixture, dataset or query.

    Attributes:
        lake: where the episodes are.
        what: see `pipelines.selection.choose`.
        format: a name in `pipelines.exporters.registry`.
        out: folder or URL; each dataset becomes a folder below it.
        kinds: only sources of these kinds (`human`, `robot`, `sim`); empty means all.
        options: passed to the exporter.
        accepted: restricted licences, or datasets under one, that this export may contain.
    """

    lake: Lake
    what: str
    format: str
    out: str
    kinds: tuple[str, ...] = ()
    options: ExportOptions = field(default_factory=ExportOptions)
    accepted: tuple[str, ...] = ()
    name: str = "export"

    def plan(self) -> Sequence[Unit]:
        """One unit per dataset in the selection that has actions; see `left_out` for the others.

        Raises:
            LicenceError: a restricted licence was not accepted by name.
            LeakageError: the splits are not independent.
            UsageError: there is nothing to export.
        """
        exporter, catalog = EXPORTERS.load(self.format), Catalog(self.lake)
        chosen, history = self._chosen(), catalog.scan("publications").collect()
        self._check(chosen, exporter)
        units: list[Unit] = []
        for (dataset,), episodes in chosen.episodes.group_by("dataset", maintain_order=True):
            plan = self._plan_of(str(dataset), episodes, chosen)
            content = content_id(exporter, plan, catalog)
            past = history.filter((pl.col("uri") == plan.folder) & (pl.col("content_hash") == content)).height
            # A folder that was deleted or overwritten is exported again, although its unit once ran.
            inputs = [content, plan.folder, 0 if Destination(plan.folder).is_current(content) else past]
            size = int(episodes["bytes"].sum())
            name = unit_id(self.name, inputs, None, CODE)
            units.append(
                Unit(name, self.name, str(dataset), f"{dataset} -> {plan.folder}", (plan, content), size, episodes.height)
            )
        return units

    def left_out(self) -> dict[str, int]:
        """Return, per dataset of the selection that this export skips, its number of episodes."""
        every, kept = choose(self.lake, self.what).episodes, set(self._chosen().episodes["episode_id"])
        skipped = every.filter(~pl.col("episode_id").is_in(list(kept)))
        return {str(d): n for d, n in skipped.group_by("dataset").len().sort("dataset").iter_rows()}

    def work(self, unit: Unit) -> Output:
        """Write one dataset and give it its name."""
        plan, content = unit.payload
        place, exporter = Destination(plan.folder), EXPORTERS.load(plan.format)()
        with place.workspace() as folder:
            job = replace(build_job(self.lake, plan, folder), staging=place.staging(content))
            report = exporter.export(job)
            tables = write_side_tables(job)
            report = replace(report, files=report.files + len(tables), bytes=report.bytes + sum(p.stat().st_size for p in tables))
            place.publish(folder, content, exporter.commit_files(job))
        row = {
            "uri": plan.folder, "format": plan.format, "mixture": plan.mixture, "mixture_hash": plan.mixture_hash,
            "episodes": report.episodes, "rows": report.rows, "bytes": report.bytes, "content_hash": content, "verified": False,
            "report": json.dumps({"plan": json.loads(plan.to_json()), "export": asdict(report)}),
        }  # fmt: skip
        frames = report.copied + report.transcoded
        return Output((), {"publications": pa.Table.from_pylist([row])}, (), report.rows, frames, report.bytes)

    def _check(self, chosen: Selection, exporter: type[Exporter]) -> None:
        check_licences(chosen.episodes, self.accepted)
        held = held_out(self.lake, chosen.mixture, chosen.mixture_hash)
        splits: dict[str, str] = {}
        for _, rows in chosen.episodes.group_by("dataset", maintain_order=True):
            splits |= assign(rows, self.options.split, self.options.val_share, held, always_val=exporter.always_val)
        check_splits(chosen.episodes, splits)

    def _chosen(self) -> Selection:
        selection = choose(self.lake, self.what)
        episodes = selection.episodes.filter(pl.col("has_action"))
        if self.kinds:
            episodes = episodes.filter(pl.col("source").is_in(list(self.kinds)))
        if episodes.is_empty():
            kinds = f" of kind {', '.join(self.kinds)}" if self.kinds else ""
            raise UsageError(
                f"{self.what!r} holds no episodes{kinds} with actions, so there is nothing to export as {self.format}"
            )
        return Selection(episodes, selection.mixture, selection.mixture_hash, selection.pins)

    def _plan_of(self, dataset: str, episodes: pl.DataFrame, chosen: Selection) -> ExportPlan:
        folder = Destination.below(self.out, dataset).uri
        ids = tuple(episodes["episode_id"].to_list())
        return ExportPlan(
            self.format, dataset, folder, ids, asdict(self.options), chosen.mixture, chosen.mixture_hash, chosen.pins
        )


@dataclass(frozen=True, slots=True)
class PartsStage:
    """Write the parts of an export's large datasets side by side; `ExportStage` then finds them done and joins them.

    Nothing depends on it: without it `ExportStage` writes the parts one after the other.
    """

    export: ExportStage
    name: str = "export-parts"

    @property
    def lake(self) -> Lake:
        """Where the episodes are."""
        return self.export.lake

    def plan(self) -> Sequence[Unit]:
        """One unit per part of every dataset that has several and is not exported yet."""
        units: list[Unit] = []
        for whole in pending(self.export):
            plan, content = whole.payload
            job = build_job(self.lake, plan, Path())
            parts = cut(job) if is_parted(EXPORTERS.load(plan.format)()) else ()
            # A part that was written once and is gone (the staging folder was removed) is left to `ExportStage`.
            for part in parts if len(parts) > 1 else ():
                name = unit_id(self.name, [whole.id, part.number, len(parts)], None, CODE)
                size = sum(int(e.row["bytes"] or 0) for e in job.episodes[part.first : part.stop])
                label = f"{whole.label} part {part.number + 1} of {len(parts)}"
                units.append(Unit(name, self.name, whole.dataset, label, (plan, content, part), size, part.stop - part.first))
        return units

    def work(self, unit: Unit) -> Output:
        """Write one part into the export's staging folder."""
        plan, content, part = unit.payload
        staging = Destination(plan.folder).staging(content)
        job = build_job(self.lake, plan, staging)
        finish_part(EXPORTERS.load(plan.format)(), job, part, staging, lambda: None)
        return Output((), {}, (), sum(int(e.row["steps"]) for e in job.episodes[part.first : part.stop]))


def build_job(lake: Lake, plan: ExportPlan, folder: Path) -> ExportJob:
    """Build an exporter's job from its plan; `verify` builds the same one again.

    Raises:
        LakeError: an episode has gone, or the dataset's shards disagree about its contract.
    """
    rows = _rows(Catalog(lake), plan)
    options = plan.export_options
    held = held_out(lake, plan.mixture, plan.mixture_hash)
    dense = find_dense(Catalog(lake), options.features_of, rows)
    episodes = tuple(
        replace(e, dense=dense[e.shard]) for e in place(rows, options, held, always_val=EXPORTERS.load(plan.format).always_val)
    )
    language = language_rows(Catalog(lake), rows)
    provenance = {
        "cotrain": digest([plan.format, plan.dataset])[:8], "lake": lake.root, "dataset": plan.dataset, "mixture": plan.mixture,
        "mixture_hash": plan.mixture_hash, "pins": plan.pins,
        "episodes": [{k: r[k] for k in ("episode_id", "key", "uri", "content_hash", "licence")} for r in rows.iter_rows(named=True)],
    }  # fmt: skip
    contract = with_features(_contract(lake, rows), episodes[0].dense)
    if options.resample:
        rate = check_holdable(contract, options.fps)
        episodes = tuple(replace(e, grid_fps=rate) for e in episodes)
    return ExportJob(lake, plan.dataset, contract, episodes, folder, options, language, provenance)


def place(
    rows: pl.DataFrame, options: ExportOptions, held: frozenset[str] | None = None, *, always_val: bool
) -> tuple[ExportEpisode, ...]:
    """Return the episodes of `rows` with their splits, split after split, in the order of `rows` within one."""
    splits = assign(rows, options.split, options.val_share, held, always_val=always_val)
    episodes = (
        ExportEpisode(r["episode_id"], r["dataset"], r["shard"], r, splits[r["episode_id"]]) for r in rows.iter_rows(named=True)
    )
    return tuple(sorted(episodes, key=lambda e: split_order(e.split)))


def write_mix_file(lake: Lake, plans: Sequence[ExportPlan], out: str) -> Path | None:
    """Write the mix file of an RLDS export of a mixture to a local `out`; None where there is none to write."""
    if not plans or plans[0].mixture is None or plans[0].format != "rlds" or not Destination(plans[0].folder).is_local:
        return None
    from pipelines.exporters.rlds.mix import write_mix
    from pipelines.mixture.manifest import open_mixture

    mixture = open_mixture(lake, plans[0].mixture, plans[0].mixture_hash)
    return write_mix(mixture, {p.dataset: p.folder for p in plans}, Path(Destination.below(out, "").uri))


def push_all(lake: Lake, plans: Sequence[ExportPlan], repository: str) -> list[str]:
    """Upload finished exports to a hub and return their addresses; of several, each dataset's name is appended to `repository`.

    Raises:
        UsageError: the hub refuses, or `repository` is no name for one.
        TransportError: the hub cannot be reached.
    """
    addresses: list[str] = []
    for plan in plans:
        name = repository if len(plans) == 1 else f"{repository}-{plan.dataset}"
        tag = EXPORTERS.load(plan.format)().tag(build_job(lake, plan, Path()))
        addresses.append(push(plan.folder, name, tag))
    return addresses


def held_out(lake: Lake, mixture: str | None, mixture_hash: str | None) -> frozenset[str] | None:
    """Return the episodes a pinned mixture holds out; None where none is exported."""
    if mixture is None:
        return None
    from pipelines.mixture.manifest import open_mixture

    return frozenset(open_mixture(lake, mixture, mixture_hash).episode_ids("val"))


def content_id(exporter: type[Exporter], plan: ExportPlan, catalog: Catalog) -> str:
    """Identify what an export holds: exporter version, options, episode contents and the texts joined to them."""
    rows = _rows(catalog, plan)
    texts = {k: [(r.style, r.text, r.start_ns) for r in v] for k, v in language_rows(catalog, rows).items()}
    joined = (*plan.options["features_of"], *plan.options["tables_of"])
    dense = [[d.uri for d in found] for found in find_dense(catalog, joined, rows).values()] if joined else []
    episodes = rows.select("episode_id", "content_hash").rows()
    # A mixture's hash decides what is held out, and nothing else of the bytes.
    mixture = [plan.mixture_hash] if plan.mixture_hash and plan.options["split"] in ("auto", "mixture") else []
    return digest([exporter.name, exporter.version, plan.options, episodes, texts, *mixture, *dense])


def _rows(catalog: Catalog, plan: ExportPlan) -> pl.DataFrame:
    wanted = pl.DataFrame({"episode_id": plan.episode_ids})
    known = catalog.latest("episodes", plan.pins.get("episodes")).collect()
    rows = known.join(wanted, on="episode_id", how="semi").sort("dataset", "shard", "first_row")
    if rows.height != wanted.height:
        raise LakeError(
            f"{wanted.height - rows.height} of the {wanted.height} episodes of {plan.folder} are no longer in the catalog"
        )
    return rows


def _contract(lake: Lake, rows: pl.DataFrame) -> Contract:
    pairs = rows.select("dataset", "shard").unique().rows()
    contracts = {open_shard(lake, dataset, shard).contract.to_json() for dataset, shard in pairs}
    if len(contracts) > 1:
        raise LakeError(
            f"the shards of {pairs[0][0]} were written under {len(contracts)} different contracts; ingest the dataset again, "
            "or export a selection that shares one"
        )
    return Contract.from_json(contracts.pop())
