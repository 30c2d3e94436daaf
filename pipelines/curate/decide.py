"""Turns scores into decisions: every gate is a condition in SQL over the scored episodes, and every rejected episode has its reason."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.curate.coverage import DUPLICATE, Coverage, coverage
from pipelines.curate.frame import better_is_less, column_of, duplicate_of, scored
from pipelines.curate.scores import PREFIX
from pipelines.selection import choose
from pipelines.unit import Output, Unit
from schemas.curation import CurationSpec, GateSpec
from schemas.errors import CoverageError, UsageError
from schemas.ids import canonical_json, digest, unit_id

CODE = "1"
LEFT = "selection"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a curation decides.

    Attributes:
        rows: one per chosen episode: `episode_id`, `dataset`, `keep`, `gate`, `reason`, `value`, `detail`, and the guarded columns.
        sql: the statement that decided.
        coverage: what is kept of each task, scene and embodiment.
    """

    rows: pl.DataFrame
    sql: str
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class DecideStage:
    """Store what a curation decides: one unit. The same spec over the same scores is the same unit and does nothing twice."""

    lake: Lake
    spec: CurationSpec
    name: str = "curate"

    def plan(self) -> list[Unit]:
        """One unit: what is decided now."""
        verdicts = decide(self.lake, self.spec)
        decided = verdicts.rows.select("episode_id", "keep", "gate", "reason", "value", "detail")
        basis = digest([self.spec.hash, decided.rows()])[:20]
        name = unit_id(self.name, basis, self.spec.name, CODE)
        label = f"curate {self.spec.name}: {verdicts.rows.height} episodes"
        return [Unit(name, self.name, "", label, (verdicts, basis), episodes=verdicts.rows.height)]

    def work(self, unit: Unit) -> Output:
        """Check what is lost, and write the decisions.

        Raises:
            CoverageError: too little would be left of a task, scene or embodiment; nothing is written.
        """
        verdicts, basis = unit.payload
        if verdicts.coverage.violations:
            raise CoverageError(
                f"curation {self.spec.name} loses too much: {'; '.join(verdicts.coverage.violations[:5])}. "
                "Loosen a gate, or lower [coverage] if that is meant"
            )
        decided = verdicts.rows.select("episode_id", "dataset", "keep", "gate", "reason", "value", "detail").to_dicts()
        rows = [r | {"curation": self.spec.name, "spec_hash": self.spec.hash, "basis": basis} for r in decided]
        rows += _left(Catalog(self.lake), self.spec, verdicts.rows, basis)
        return Output((), {"decisions": pa.Table.from_pylist(rows)}, (), len(rows))


def decide(lake: Lake, spec: CurationSpec) -> Verdicts:
    """Decide without writing.

    Raises:
        UsageError: the selection is empty, a score is missing altogether, or a condition does not parse.
    """
    catalog = Catalog(lake)
    episodes = choose(lake, spec.where).episodes
    wanted = {g.score: g.fingerprint for g in spec.gates if g.score}
    if spec.duplicates and spec.duplicates.keep:
        wanted.setdefault(spec.duplicates.keep, "")
    wanted |= _mentioned(catalog, spec, episodes, wanted)
    frame = scored(catalog, episodes, list(wanted.items()))
    for gate in spec.gates:
        frame = _compared(frame, gate)
    if spec.duplicates:
        frame = duplicate_of(catalog, frame, spec.duplicates)
    sql = statement(spec)
    try:
        failed = pl.SQLContext({"scored": frame.lazy()}).execute(sql).collect()
    except PolarsError as error:
        raise UsageError(f"a gate's condition failed: {error}. Columns: {', '.join(frame.columns)}") from error
    rows = _verdicts(spec, frame, failed)
    return Verdicts(rows, sql, coverage(rows, spec.coverage))


def statement(spec: CurationSpec) -> str:
    """Return the SELECT that decides: per gate, whether an episode fails it."""
    columns = [f"  ({condition(gate)}) AS gate_{i}" for i, gate in enumerate(spec.gates)]
    if spec.duplicates:
        columns.append("  (duplicate_of IS NOT NULL) AS gate_duplicates")
    return "SELECT episode_id,\n" + ",\n".join(columns) + "\nFROM scored"


def condition(gate: GateSpec) -> str:
    """Return a gate as a condition in SQL that holds for episodes to reject."""
    if gate.sql:
        return gate.sql
    column = column_of(gate.score)
    limits = {"below": (column, "<"), "above": (column, ">"), "z_below": (f"{column}_z", "<"), "z_above": (f"{column}_z", ">"),
              "worst": (f"{column}_rank", "<=")}  # fmt: skip
    parts = [f"{c} {sign} {getattr(gate, n)!r}" for n, (c, sign) in limits.items() if getattr(gate, n) is not None]
    if gate.missing == "reject":
        parts.append(f"{column} IS NULL")
    return " OR ".join(parts)


def _compared(frame: pl.DataFrame, gate: GateSpec) -> pl.DataFrame:
    """Add the robust z and the rank (share with a value at least as bad) that a gate needs."""
    if not gate.score:
        return frame
    name = column_of(gate.score)
    column, group = pl.col(name), [gate.within] if gate.within else [pl.lit(0)]
    if gate.z_below is not None or gate.z_above is not None:
        centre = column.median().over(group)
        deviation = 1.4826 * (column - centre).abs().median().over(group)
        z = pl.when(column.is_null()).then(None).when(deviation > 0).then((column - centre) / deviation).otherwise(0.0)
        frame = frame.with_columns(z.alias(f"{name}_z"))
    if gate.worst is not None:
        rank = column.rank("max", descending=better_is_less(gate.score)).over(group) / column.count().over(group)
        frame = frame.with_columns(rank.alias(f"{name}_rank"))
    return frame


def _mentioned(catalog: Catalog, spec: CurationSpec, episodes: pl.DataFrame, have: dict[str, str]) -> dict[str, str]:
    """Return the scores whose columns the conditions in SQL mention."""
    text = " ".join(g.sql for g in spec.gates)
    if not text:
        return {}
    table = catalog.latest("scores").join(episodes.lazy().select("episode_id"), on="episode_id", how="semi")
    known = table.select("method").unique().collect()["method"].to_list()
    named = (m.removeprefix(PREFIX) for m in sorted(known))
    return {m: "" for m in named if column_of(m) in text and m not in have and column_of(m) not in episodes.columns}


def _verdicts(spec: CurationSpec, frame: pl.DataFrame, failed: pl.DataFrame) -> pl.DataFrame:
    gates = [f"gate_{i}" for i in range(len(spec.gates))] + (["gate_duplicates"] if spec.duplicates else [])
    marks = failed.select(pl.col(gates).fill_null(value=False)).rows()
    told: list[dict[str, Any]] = []
    for row, mark in zip(frame.iter_rows(named=True), marks, strict=True):
        all_failed = [g for g, hit in zip(gates, mark, strict=True) if hit]
        first = all_failed[0] if all_failed else None
        name, reason, value = _why(spec, row, first)
        detail = canonical_json([_why(spec, row, g)[1] for g in all_failed]).decode() if len(all_failed) > 1 else None
        told.append({"keep": first is None, "gate": name, "reason": reason, "value": value, "detail": detail})
    columns = {"keep": pl.Boolean, "gate": pl.String, "reason": pl.String, "value": pl.Float64, "detail": pl.String}
    guarded = [c for c in dict.fromkeys(("episode_id", "dataset", *spec.coverage.by)) if c in frame.columns]
    if unknown := [c for c in spec.coverage.by if c not in frame.columns]:
        raise UsageError(f"coverage.by names {unknown}; episodes have {', '.join(frame.columns)}")
    return pl.concat([frame.select(guarded), pl.DataFrame(told, schema=columns)], how="horizontal")


def _why(spec: CurationSpec, row: dict[str, Any], failed: str | None) -> tuple[str | None, str | None, float | None]:
    """Return the gate's name, the reason in words, and the value that decided."""
    if failed is None:
        return None, None, None
    if failed == "gate_duplicates":
        kind, similarity = row["duplicate_kind"], row["duplicate_similarity"]
        return DUPLICATE, f"near-duplicate of {row['duplicate_of']} ({kind}, {similarity:.2f})", similarity
    gate = spec.gates[int(failed.removeprefix("gate_"))]
    value = row.get(column_of(gate.score)) if gate.score else None
    shown = "no value" if value is None else f"{value:.4g}"
    said = gate.reason or condition(gate)
    return gate.name, f"{said} ({gate.score} = {shown})" if gate.score else said, value


def _left(catalog: Catalog, spec: CurationSpec, rows: pl.DataFrame, basis: str) -> list[dict[str, Any]]:
    """Take back what an earlier run of this curation kept and this one does not choose any more."""
    before = catalog.latest("decisions").filter((pl.col("curation") == spec.name) & pl.col("keep")).collect()
    gone = before.join(rows, on="episode_id", how="anti")
    return [
        {"curation": spec.name, "spec_hash": spec.hash, "basis": basis, "episode_id": e, "dataset": d, "keep": False, "gate": LEFT,
         "reason": f"no longer chosen by {spec.where!r}", "value": None, "detail": None}
        for e, d in gone.select("episode_id", "dataset").iter_rows()
    ]  # fmt: skip
