"""`cotrain triplets`: mine minimal-change triplets of a selection, and write them as an image-pair dataset."""

from typing import Annotated, Any

import typer

from pipelines.cli.options import (
    DryRunOption,
    ExecutorOption,
    JsonOption,
    LakeOption,
    SchedulerOption,
    WorkersOption,
    key_values,
)

NAME = "triplets"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")],
    out: Annotated[str, typer.Option("--out", help="Folder or URL; every dataset becomes a folder below it.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the filters (docs/triplets.md), for example camera_px=1.0.")
    ] = None,
    least_confidence: Annotated[float, typer.Option("--least-confidence", min=0, max=1, help="Leave less sure pairs out.")] = 0.0,
    val_share: Annotated[float, typer.Option("--val-share", min=0, max=0.9, help="Share of groups in val, by hash.")] = 0.1,
    split: Annotated[str, typer.Option("--split", help="Who holds out: auto, source, hash or none.")] = "auto",
    audited: Annotated[int, typer.Option("--audit", min=0, help="Pairs on the page for a person to judge.")] = 100,
    accept: Annotated[
        list[str] | None, typer.Option("--accept-licence", help="A restricted licence or dataset to allow.")
    ] = None,
    lake: LakeOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Mine pairs in which one thing changed, in episodes and between counterfactual takes, and write them. Running it again does nothing."""
    from annotators.triplets.triplets import Triplets
    from catalog.lake import Lake
    from pipelines.annotate import AnnotateStage
    from pipelines.executors import Execution
    from pipelines.exporters.splits import MODES
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running, describe, exit_code, perform, sentence, summary
    from pipelines.triplets import CounterfactualStage, TripletsStage
    from pipelines.triplets.stage import TripletsOptions
    from schemas.errors import UsageError

    if split not in MODES or split == "mixture":
        raise UsageError(f"--split {split!r} is unknown; use auto, source, hash or none")
    where, annotator = Lake.at(lake), Triplets.from_settings(key_values(settings))
    running = Running(Console(as_json), Execution(executor, workers, scheduler))  # pyright: ignore[reportArgumentType]
    options = TripletsOptions(split, val_share, least_confidence=least_confidence, audited=audited)
    stages: list[Any] = [AnnotateStage(where, annotator, what), CounterfactualStage(where, annotator, what)]
    written = TripletsStage(where, what, out, annotator, options, tuple(accept or ()))
    if dry_run:
        running.console.result({"command": NAME, "stages": [describe(s, running) for s in (*stages, written)]})
        return 0
    code, documents = 0, list[dict[str, Any]]()
    for stage in (*stages, written):
        report = perform(stage, running)
        running.console.text(f"{stage.name}: {sentence(report)}")
        documents.append({"stage": stage.name, **summary(report)})
        code = max(code, exit_code(report) if report.units else 0)
    folders = [unit.payload[0] for unit in written.plan()]
    counts = {folder: _told(folder, running) for folder in folders}
    running.console.result({"command": NAME, "stages": documents, "folders": folders, "counts": counts})
    return code


def _told(folder: str, running: Any) -> dict[str, Any]:
    """Print what a written folder holds, and return it."""
    import json

    import fsspec

    from pipelines.triplets.stage import AUDIT, INFO

    try:
        with fsspec.open(f"{folder}/{INFO}", "r") as file:
            info = json.load(file)  # pyright: ignore[reportArgumentType]
    except FileNotFoundError:
        return {}
    rows = [(r["filter"], r["reason"], r["candidates"]) for r in info["refused"]]
    running.console.table(("filter", "reason", "candidates refused"), rows, title="refused")
    running.console.table(("label", "rows"), list(info["counts"].items()), title="written")
    running.console.text(f"{folder}: a page to audit is {AUDIT}")
    return {"counts": info["counts"], "by_kind": info["by_kind"], "refused": info["refused"]}
