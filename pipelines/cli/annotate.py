"""`cotrain annotate`: run annotators over episodes."""

from typing import Annotated, Any

import typer

from pipelines.cli.options import (
    DryRunOption, ExecutorOption, JsonOption, LakeOption, LimitOption, RejectsOption, SchedulerOption, WorkersOption,
)  # fmt: skip

NAME = "annotate"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a condition or a SELECT that returns episode_id.")] = "all",
    names: Annotated[str, typer.Option("--with", help="Annotators, comma-separated.")] = "language_motion",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the annotator's configuration.")] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Also print the quality report with its baselines.")] = False,
    lake: LakeOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    limit: LimitOption = None,
    max_rejects: RejectsOption = 0.2,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Annotate episodes: side tables per shard, committed once. Running it again does nothing."""
    return 0
