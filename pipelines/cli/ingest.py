"""`cotrain ingest`: a source becomes packet shards and catalog rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import (
    BudgetOption,
    DryRunOption,
    ExecutorOption,
    JsonOption,
    LakeOption,
    LimitOption,
    RejectsOption,
    RepairOption,
    SchedulerOption,
    WorkersOption,
    key_values,
)  # fmt: skip

NAME = "ingest"


def command(
    uri: Annotated[str, typer.Argument(help="What to ingest: a folder, a file or a URL.")],
    dataset: Annotated[str | None, typer.Option("--as", help="Dataset name in the lake. Default: from the URI.")] = None,
    kind: Annotated[str, typer.Option("--kind", help="Source format; auto recognises it.")] = "auto",
    licence: Annotated[str | None, typer.Option("--licence", help="Licence to record, for example CC-BY-4.0.")] = None,
    contract: Annotated[Path | None, typer.Option("--contract", help="TOML with what the source does not say.")] = None,
    texts: Annotated[str, typer.Option("--texts", help="Table of timed text, or a folder of them.")] = "",
    pairs: Annotated[list[str] | None, typer.Option("--set", help="key=value, a setting of this format's adapter.")] = None,
    settings: Annotated[Path | None, typer.Option("--settings", help="TOML file with the adapter's settings.")] = None,
    check: Annotated[str, typer.Option("--check", help="Test-decode each camera: none, ends, all.")] = "ends",
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="Close a shard at about this size.")] = 256,
    lake: LakeOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    unit_timeout: Annotated[float | None, typer.Option("--unit-timeout", help="Kill a unit after this many seconds.")] = None,
    budget_s: BudgetOption = None,
    limit: LimitOption = None,
    max_rejects: RejectsOption = 0.2,
    repair: RepairOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Ingest a source into packet shards, without re-encoding. Running it again does nothing."""
    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.executors.execution import deadline
    from pipelines.ingest import IngestStage
    from pipelines.sources.base import SourceOptions, dataset_name, read_overlay
    from pipelines.sources.registry import open_source
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running, describe, exit_code, perform, sentence, summary
    from schemas.errors import UsageError
    from schemas.shards import steps_schema

    if check not in ("none", "ends", "all"):
        raise UsageError(f"--check {check!r} is unknown; use none, ends or all")
    options = SourceOptions(
        dataset or dataset_name(uri), licence, read_overlay(contract) if contract else None, shard_mb << 20, texts,
        (read_overlay(settings) if settings else {}) | key_values(pairs),
    )  # fmt: skip
    stage = IngestStage(Lake.at(lake), open_source(uri, options, kind), check)
    execution = Execution(executor, workers, scheduler, unit_timeout, deadline(budget_s))  # pyright: ignore[reportArgumentType]
    running = Running(Console(as_json), execution, limit, max_rejects, repair)
    if dry_run:
        running.console.result(describe(stage, running, steps_schema(stage.source.contract()).names))
        return 0
    report = perform(stage, running)
    document: dict[str, Any] = {"command": NAME, "dataset": options.dataset, "uri": uri, **summary(report)}
    running.console.text(f"{options.dataset} <- {uri}\n{sentence(report)}")
    running.console.result(document)
    return exit_code(report)
