"""What a flow run shows in Prefect: one progress bar, tables of counts, what failed, a card of the lake."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)  # fmt: skip

from catalog.tables import Catalog
from flows.summary import Summary
from pipelines.report.gather import exports, mixture, sources, totals

SHOWN_FAILURES = 100


class Progress:
    """One progress artifact per run: `steps` equal parts, updated per batch of units, never per row."""

    def __init__(self, key: str, steps: int) -> None:
        """Show an empty bar under `key`."""
        self._steps, self._step = max(steps, 1), 0
        created: Any = create_progress_artifact(0.0, key=key, description="starting")
        self._id: UUID = created

    def within(self, share: float, text: str) -> None:
        """Show that `share` (0 to 1) of the current part is done."""
        self._show(self._step + share, text)

    def advance(self, text: str) -> None:
        """Show that the current part is done."""
        self._step += 1
        self._show(self._step, text)

    def _show(self, steps: float, text: str) -> None:
        update_progress_artifact(self._id, min(100 * steps / self._steps, 100.0), description=text)


def stage_table(key: str, summaries: Sequence[Summary]) -> None:
    """Publish a table: per stage and dataset what happened to its units, and rejects counted by reason."""
    rows: list[dict[str, Any]] = [
        {
            "stage": s.stage, "dataset": s.dataset, "units": s.planned, "already there": s.skipped, "done": s.worked, "failed": s.failed,
            "left": s.left, "rows": s.rows, "pictures": s.frames, "MB": round(s.bytes / 1e6, 1), "seconds": round(s.seconds, 1),
            "rejected": ", ".join(f"{n} {why}" for why, n in sorted(Counter(r.error for r in s.rejects).items())) or "none",
        }
        for s in summaries
    ]  # fmt: skip
    create_table_artifact(rows, key=key, description="Units by dataset; rejects are in the quarantine table, with reasons")


def failures(key: str, summaries: Sequence[Summary], error: BaseException | None = None) -> None:
    """Publish the markdown artifact `<key>-failures`: what stopped the run, what is in quarantine and why, and what a rerun does."""
    rejects = [(s.stage, r.key, r.error, r.message) for s in summaries for r in s.rejects]
    lines = ["# Failures", ""]
    if error is not None:
        lines += [f"The run stopped: {type(error).__name__}: {error}", "", "What was done stays; run the flow again.", ""]
    if rejects:
        lines += ["Bugs and crashes are tried again by the next run; bad input stays in quarantine until its source changes.", ""]
        lines += _table(("stage", "what", "error", "reason"), rejects[:SHOWN_FAILURES])
        lines += [f"and {len(rejects) - SHOWN_FAILURES} more in the quarantine table"] if len(rejects) > SHOWN_FAILURES else []
    if error is None and not rejects:
        lines += ["None."]
    create_markdown_artifact("\n".join(lines), key=f"{key}-failures", description="What failed or was rejected, and why")


def lake_card(catalog: Catalog, summaries: Sequence[Summary], page: str) -> str:
    """Publish the markdown card `lake-card`: what the lake holds, the mixture, the exports, this run; and the link to the page."""
    card = "\n".join([*_heading(catalog), *_sources(catalog), *_mixture(catalog), *_exports(catalog), *_stages(summaries)])
    create_markdown_artifact(card, key="lake-card", description="What the lake holds after this run")
    report_link(page)
    return card


def report_link(page: str) -> None:
    """Publish the link `report-page`."""
    create_link_artifact(page, link_text="report with contact sheets", key="report-page")


def _heading(catalog: Catalog) -> list[str]:
    sums = totals(catalog)
    text = (
        f"{sums.datasets} datasets, {sums.episodes:,} episodes, {sums.steps:,} steps, {sums.seconds / 3600:.2f} h, "
        f"{sums.bytes / 1e6:,.1f} MB of shards, {sums.rejects} episodes in quarantine."
    )
    return ["# Lake", "", text, ""]


def _sources(catalog: Catalog) -> list[str]:
    head = ("dataset", "kind", "embodiment", "episodes", "steps", "seconds", "cameras", "licence")
    rows = [
        (
            s.dataset,
            s.kind,
            s.embodiment,
            s.episodes,
            s.steps,
            round(s.seconds, 1),
            ", ".join(s.cameras),
            s.licence or "not stated",
        )
        for s in sources(catalog)
    ]
    return ["## Sources", "", *_table(head, rows)]


def _mixture(catalog: Catalog) -> list[str]:
    mixed = mixture(catalog)
    if mixed is None:
        return []
    head = ("source", "asked", "after caps", "realised", "draws", "epochs", "note")
    rows = [
        (s.name, f"{s.asked:.2%}", f"{s.target:.2%}", f"{s.realised:.2%}", s.draws, round(s.epochs, 2), s.note)
        for s in mixed.shares
    ]
    return [f"## Mixture {mixed.name}", "", f"`{mixed.hash}`, {mixed.samples:,} samples", "", *_table(head, rows)]


def _exports(catalog: Catalog) -> list[str]:
    head = ("dataset", "format", "episodes", "steps", "MB", "differences when read back")
    rows = [
        (
            e.dataset,
            e.format,
            e.episodes,
            e.rows,
            round(e.bytes / 1e6, 1),
            "not verified" if e.differences is None else e.differences,
        )
        for e in exports(catalog)
    ]
    return ["## Exports", "", *_table(head, rows)] if rows else []


def _stages(summaries: Sequence[Summary]) -> list[str]:
    rows = [(s.stage, s.dataset, s.worked, s.skipped, s.failed, len(s.rejects), f"{s.seconds:.1f}") for s in summaries]
    return ["## This run", "", *_table(("stage", "what", "done", "already there", "failed", "rejects", "seconds"), rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return a markdown table; a bar inside a cell would end it."""
    lines = [list(head), ["---"] * len(head), *rows]
    return [*("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines), ""]
