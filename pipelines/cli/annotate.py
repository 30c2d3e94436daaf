"""`cotrain annotate`: run annotators over episodes."""

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
    budget_s: BudgetOption = None,
    limit: LimitOption = None,
    max_rejects: RejectsOption = 0.2,
    repair: RepairOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Annotate episodes: side tables per shard, committed once. Running it again does nothing."""
    from catalog.lake import Lake
    from pipelines.annotate import AnnotateStage
    from pipelines.annotate import evaluate as evaluate_annotator
    from pipelines.executors import Execution
    from pipelines.executors.execution import deadline
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running, describe, exit_code, perform, sentence, summary

    config = key_values(settings)
    where, console = Lake.at(lake), Console(as_json)
    execution = Execution(executor, workers, scheduler, until=deadline(budget_s))  # pyright: ignore[reportArgumentType]
    running, code, documents = Running(console, execution, limit, max_rejects, repair), 0, list[dict[str, Any]]()
    for name in (n.strip() for n in names.split(",") if n.strip()):
        stage = AnnotateStage.named(where, name, what, config)
        if dry_run:
            documents.append({"annotator": name, **describe(stage, running, stage.annotator.provides.names)})
            continue
        report = perform(stage, running)
        console.text(f"{name}: {sentence(report)}")
        document: dict[str, Any] = {"annotator": name, **summary(report)}
        if evaluate:
            found = evaluate_annotator(where, stage.annotator, what)
            document["quality"] = {dataset: [r.to_dict() for r in reports] for dataset, reports in found.items()}
            for dataset, reports in found.items():
                rows = [(r.metric, r.value, r.ci95, r.n_episodes, _named(r.baselines), r.gate, r.gt_source) for r in reports]
                columns = ("metric", "value", "95% interval", "episodes", "baselines", "gate", "truth")
                console.table(columns, rows, title=f"{name} on {dataset}")
        documents.append(document)
        code = max(code, exit_code(report))
    console.result({"command": NAME, "annotators": documents})
    return code


def _named(values: Any) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
