"""`cotrain annotate`: run annotators over episodes, and say how good they are."""

from typing import TYPE_CHECKING, Annotated, Any

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
from pipelines.cli.options import names as split_names

if TYPE_CHECKING:
    from annotators.base import Annotator
    from pipelines.annotate import AnnotateStage
    from pipelines.terminal.stages import Running
    from pipelines.unit import StageReport

NAME = "annotate"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a condition or a SELECT that returns episode_id.")] = "all",
    names: Annotated[
        str, typer.Option("--with", help="Annotators, comma-separated; those that look alike share one decoding.")
    ] = ("language_motion"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the configuration, or annotator.key=value for one of several.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where models run: auto, cpu, cuda or cuda:<number>.")] = "auto",
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="A trained model, for the annotators that have the setting `checkpoint`.")
    ] = None,
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate", help="Also measure the quality with every baseline, keep it in the table quality, print it."),
    ] = False,
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
    from annotators.registry import open_annotator
    from catalog.lake import Lake
    from pipelines.annotate import AnnotateStage
    from pipelines.annotate.prepare import prepared
    from pipelines.executors import Execution
    from pipelines.executors.execution import deadline
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running

    where, console, config = Lake.at(lake), Console(as_json), key_values(settings)
    execution = Execution(executor, workers, scheduler, until=deadline(budget_s))  # pyright: ignore[reportArgumentType]
    running, code, documents = Running(console, execution, limit, max_rejects, repair), 0, list[dict[str, Any]]()
    asked = split_names(names)
    told = [_settings_of(name, asked, config) for name in asked]
    if checkpoint is not None:
        told = _with_checkpoint(asked, told, checkpoint)
    annotators = [open_annotator(name, prepared(where, name, what, own)) for name, own in zip(asked, told, strict=True)]
    for place, annotator in enumerate(annotators):
        stage = AnnotateStage(where, annotator, what, device=device, beside=tuple(annotators[place + 1 :]))
        if dry_run:
            documents.append(_described(stage, running))
            continue
        document, worse = _performed(stage, running)
        if evaluate:
            document["quality"], second = _measured(where, annotator, what, device, running)
            worse = max(worse, second)
        documents.append(document)
        code = max(code, worse)
    console.result({"command": NAME, "annotators": documents})
    return code


def _settings_of(name: str, asked: tuple[str, ...], config: dict[str, str]) -> dict[str, str]:
    """Return what `--set` says to one annotator: `key`, said to all, and `annotator.key`, said to it alone."""
    from schemas.errors import UsageError

    found: dict[str, str] = {}
    for key, value in config.items():
        who, dot, rest = key.partition(".")
        if dot and who not in asked:
            raise UsageError(f"--set {key}={value} is for {who!r}, which does not run; running: {', '.join(asked)}")
        if not dot or who == name:
            found[rest if dot else key] = value
    return found


def _with_checkpoint(asked: tuple[str, ...], told: list[dict[str, str]], checkpoint: str) -> list[dict[str, str]]:
    """Name the checkpoint in the settings of the annotators that have it."""
    from annotators.registry import open_annotator
    from schemas.errors import UsageError

    takes = ["checkpoint" in open_annotator(name).settings() for name in asked]
    if not any(takes):
        raise UsageError(f"--checkpoint {checkpoint}: no annotator named takes a checkpoint; named are {', '.join(asked)}")
    return [own | {"checkpoint": checkpoint} if takes_it else own for own, takes_it in zip(told, takes, strict=True)]


def _described(stage: "AnnotateStage", running: "Running") -> dict[str, Any]:
    from pipelines.annotate.estimate import estimate
    from pipelines.terminal.stages import describe
    from pipelines.unit import pending

    document = {"annotator": stage.annotator.name, **describe(stage, running, stage.annotator.provides.names)}
    found = estimate(stage, todo := pending(stage))
    if todo:
        running.console.text(f"{stage.annotator.name} {found.sentence}")
    return document | {"estimate": found.to_dict()}


def _performed(stage: "AnnotateStage", running: "Running") -> tuple[dict[str, Any], int]:
    from pipelines.annotate.effort import in_words, total
    from pipelines.terminal.stages import exit_code, perform, sentence, summary

    report = perform(stage, running)
    effort = total((u.seconds, u.measures) for u in report.units if u.status == "done")
    text = f"{stage.annotator.name}: {sentence(report)}"
    rate = report.total("rows") / report.seconds if report.seconds and report.total("rows") else 0.0
    if effort is not None:
        text += f"; {rate:,.0f} rows/s, {in_words(effort)}"
    running.console.text(text)
    return {"annotator": stage.annotator.name, **summary(report), "rows_per_s": round(rate, 1), "effort": effort}, exit_code(
        report
    )


def _measured(where: Any, annotator: "Annotator", what: str, device: str, running: "Running") -> tuple[dict[str, Any], int]:
    """Measure what is not measured yet, and print what the catalog says."""
    from pipelines.annotate import EvaluateStage
    from pipelines.annotate.quality import stored_reports
    from pipelines.terminal.stages import exit_code, perform

    stage = EvaluateStage(where, annotator, what, device=device)
    report: StageReport = perform(stage, running)
    found = stored_reports(where, annotator, [u.dataset for u in report.units])
    columns = ("metric", "value", "95% interval", "episodes", "split", "baselines", "gate", "truth")
    for dataset, reports in found.items():
        rows = [(r.metric, r.value, r.ci95, r.n_episodes, r.split, _named(r.baselines), r.gate, r.gt_source) for r in reports]
        running.console.table(columns, rows, title=f"{annotator.name} on {dataset}")
    return {dataset: [r.to_dict() for r in reports] for dataset, reports in found.items()}, exit_code(report)


def _named(values: Any) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
