"""Runs audits by name over a selection and writes what they find to the ledger and to `scores`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.audit.collapse import CollapseConfig, audit_collapse
from pipelines.audit.ledger import Finding, record
from pipelines.audit.reasoning import ReasoningAudit
from pipelines.audit.simple import CoverageAudit, LeakageAudit, SaturationAudit
from pipelines.audit.windows import WindowConfig, take_windows
from pipelines.selection import Selection, choose
from schemas.errors import UsageError
from schemas.ids import digest, short_id
from schemas.settings import parse_settings

CODE = "1"  # raise when an audit's figures for the same input change
NAMES = ("coverage", "saturation", "leakage", "collapse", "reasoning")


@dataclass(frozen=True, slots=True)
class CollapseAudit:
    """The collapse audit's settings: those of its windows and of its models, see `WindowConfig` and `CollapseConfig`."""

    every_s: float = 2.0
    most: int = 8
    horizon_s: float = 1.0
    camera: str = ""
    embeddings: str = ""
    folds: int = 2
    hidden: int = 256
    epochs: int = 80
    permutations: int = 3
    seed: int = 0

    def run(self, lake: Lake, episodes: pl.DataFrame) -> tuple[list[Finding], pl.DataFrame]:
        """Estimate what instructions add to pictures; score every window with its pointwise information."""
        windows = take_windows(lake, episodes, _part(WindowConfig, self))
        if len(windows.instructions) < 2:
            text = f"all {len(windows.episodes)} episodes share the instruction {', '.join(windows.instructions)!r}: language says nothing here"
            return [Finding("collapse", 0.0, None, len(windows.episodes), "fail", text)], _no_scores()
        found = audit_collapse(windows.seen, windows.said, windows.done, windows.component, _part(CollapseConfig, self))
        detail = {
            "bound": found.bound, "entropy": found.entropy, "index": found.index, "null": found.null.tolist(), "verdict": found.verdict,
            "instructions": len(windows.instructions), "windows": len(windows.said), "seen": windows.source,
        }  # fmt: skip
        text = (
            f"language {found.verdict}: I(action; language | vision) = {found.information:.2f} nats, at most {found.bound:.2f} of "
            f"{found.entropy:.2f}; shuffled {found.null.max(initial=0):.2f}"
        )
        components = len(set(windows.component.tolist()))
        finding = Finding(
            "collapse",
            found.information,
            found.ci95,
            components,
            "ok" if found.verdict == "used" else "fail",
            text,
            detail,
            self.seed,
        )
        scores = pl.DataFrame({
            "episode_id": [windows.episodes[e] for e in windows.episode], "start_ns": windows.start_ns,
            "end_ns": windows.start_ns + round(self.horizon_s * 1e9), "value": found.pmi,
        })  # fmt: skip
        return [finding], scores


AUDITS: dict[str, type[Any]] = {
    "coverage": CoverageAudit, "saturation": SaturationAudit, "leakage": LeakageAudit, "collapse": CollapseAudit,
    "reasoning": ReasoningAudit,
}  # fmt: skip
METHODS = {"collapse": "pmi", "reasoning": "reasoning_keep"}  # what their rows in `scores` are called


def audit(
    lake: Lake, what: str, names: Sequence[str] = ("coverage", "saturation", "leakage"), settings: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Run the audits `names` over the selection `what`; findings go to the ledger, scores of windows to `scores`.

    Args:
        lake: where everything is.
        what: see `pipelines.selection.choose`. Splits are only known of a mixture.
        names: some of `NAMES`.
        settings: per audit, a table of its settings; see the classes in `AUDITS`.

    Raises:
        UsageError: nothing is selected, or an audit or setting is unknown.
    """
    if unknown := sorted({*names, *(settings or {})} - set(NAMES)):
        raise UsageError(f"there are no audits {unknown}; there are {list(NAMES)}")
    chosen = choose(lake, what)
    if chosen.episodes.is_empty():
        raise UsageError(f"{what!r} selects no episode; there is nothing to audit")
    content = digest([chosen.mixture_hash, chosen.episodes.select("episode_id", "content_hash").sort("episode_id").rows()])
    return [f for name in names for f in _one(lake, chosen, what, content, name, (settings or {}).get(name, {}))]


def _one(lake: Lake, chosen: Selection, what: str, content: str, name: str, settings: Mapping[str, Any]) -> list[Finding]:
    worker: Any = parse_settings(AUDITS[name], settings)
    fingerprint = short_id("fp", [name, asdict(worker), CODE])
    if isinstance(worker, LeakageAudit):
        findings, scores = _splits(lake, chosen, worker)
    else:
        findings, scores = worker.run(lake, chosen.episodes)
    record(lake, what, content, fingerprint, findings)
    if scores is not None and scores.height:
        table = scores.with_columns(
            pl.lit(METHODS[name]).alias("method"),
            pl.lit(fingerprint).alias("fingerprint"),
            pl.lit(json.dumps({"of": what})).alias("detail"),
        )
        Catalog(lake).append("scores", table.to_arrow(), short_id("audit", [name, fingerprint, content]))
    return findings


def _splits(lake: Lake, chosen: Selection, worker: LeakageAudit) -> tuple[list[Finding], None]:
    if chosen.mixture is None:
        text = "only a mixture has splits; audit mixture:NAME"
        return [Finding("leakage", None, None, chosen.episodes.height, "not-measurable", text)], None
    from pipelines.mixture.manifest import open_mixture

    index = (
        open_mixture(lake, chosen.mixture, chosen.mixture_hash).index.frame().unique("episode_id").select("episode_id", "split")
    )
    labelled = chosen.episodes.join(index.with_columns(pl.col("split").cast(pl.String)), on="episode_id")
    return worker.run_splits(lake, labelled.drop("split"), labelled["split"].to_list())


def _part[T](kind: type[T], settings: Any) -> T:
    return kind(**{f.name: getattr(settings, f.name) for f in fields(kind) if hasattr(settings, f.name)})  # pyright: ignore[reportArgumentType]


def _no_scores() -> pl.DataFrame:
    return pl.DataFrame(schema={"episode_id": pl.String, "start_ns": pl.Int64, "end_ns": pl.Int64, "value": pl.Float64})
