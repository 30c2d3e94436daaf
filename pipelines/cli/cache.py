"""`cotrain cache`: run a teacher over a mixture, audit what was stored, list it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.options import (
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

if TYPE_CHECKING:
    from pipelines.residuals.stage import CacheStage
    from pipelines.terminal.stages import Running

NAME = "cache"
TEACHER = "KIND:PATH of a checkpoint, python:MODULE:NAME, or SOURCE=... once per source of the mixture."


def command(
    what: Annotated[str, typer.Argument(help="A mixture; or `audit`, followed by one; or `ls`.")],
    mixture: Annotated[str | None, typer.Argument(help="The mixture to audit.")] = None,
    teacher: Annotated[list[str] | None, typer.Option("--teacher", help=TEACHER)] = None,
    student: Annotated[str, typer.Option("--student", help="The student, where it is another model than the teacher.")] = "",
    mode: Annotated[str, typer.Option("--mode", help="What to store: see docs/residuals.md.")] = "frozen_pair",
    draws: Annotated[int, typer.Option("--draws", min=1, help="Noised chunks per frame.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Root of every draw.")] = 0,
    source: Annotated[list[str] | None, typer.Option("--source", help="Only these sources of the mixture.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the cache's configuration.")] = None,
    device: Annotated[str, typer.Option("--device", help="Where models run: cpu, cuda, cuda:1.")] = "cpu",
    key: Annotated[str | None, typer.Option("--key", help="Audit this cache, by the beginning of its key.")] = None,
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Audit this share of the rows.")] = 0.01,
    lake: LakeOption = None,
    workers: WorkersOption = 0,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    limit: LimitOption = None,
    max_rejects: RejectsOption = 0.2,
    repair: RepairOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Cache a teacher's residuals over a mixture. Running it again computes what is missing and nothing else."""
    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.residuals.planning import plan_stages
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running
    from schemas.errors import UsageError

    where, console = Lake.at(lake), Console(as_json)
    if what == "ls":
        return _list(where, console)
    name = (mixture or "") if what == "audit" else what
    if not name or not teacher:
        raise UsageError(
            "say which mixture and which --teacher, for example: cotrain cache demo --teacher fastwam:checkpoints/demo"
        )
    config = {"mode": mode, "draws": draws, "seed": seed, **key_values(settings)}
    stages = plan_stages(where, name, teacher, student, config, tuple(source or ()), device)
    if what == "audit":
        return _audit(console, stages, key, share)
    execution = Execution(executor, workers, scheduler)  # pyright: ignore[reportArgumentType]
    return _cache(stages, Running(console, execution, limit, max_rejects, repair), dry_run=dry_run)


def _cache(stages: "list[CacheStage]", running: "Running", *, dry_run: bool) -> int:
    from catalog.tables import Catalog
    from pipelines.residuals.listing import why_missed
    from pipelines.terminal.stages import describe, exit_code, perform, sentence, summary

    code, documents = 0, list[dict[str, Any]]()
    for stage in stages:
        name = stage.teacher.spec.teacher_id
        missed = why_missed(Catalog(stage.lake), name, stage.parts)
        if missed:
            running.console.note(f"{name}: no cache has this key; the nearest differs in {', '.join(missed[:6])}")
        head: dict[str, Any] = {"teacher": name, "key": stage.key, "sources": list(stage.sources), "differs_in": missed}
        if dry_run:
            documents.append(head | describe(stage, running))
            continue
        report = perform(stage, running)
        running.console.text(f"{name} {stage.key[:12]} {stage.config.mode}: {sentence(report)}")
        documents.append(head | summary(report))
        code = max(code, exit_code(report))
    running.console.result({"command": NAME, "caches": documents})
    return code


def _audit(console: Any, stages: "list[CacheStage]", key: str | None, share: float) -> int:
    from pipelines.residuals.audit import audit, record

    found = [audit(stage, key, share) for stage in stages]
    rows = [
        (a.teacher, a.key[:12], f"{a.rows} ({a.share:.1%})", f"{a.identical:.1%}", a.worst, a.staleness, a.snr_db, a.verdict)
        for a in found
    ]
    console.table(("teacher", "key", "rows", "identical", "worst", "staleness", "SNR dB", "verdict"), rows)
    for stage, one in zip(stages, found, strict=True):
        record(stage, one)
        for reason in one.reasons:
            console.text(f"{one.teacher}: {one.verdict}: {reason}")
    console.result({"command": NAME, "audits": [a.to_dict() for a in found]})
    return int(any(a.verdict == "refuse" for a in found))


def _list(where: Any, console: Any) -> int:
    from catalog.tables import Catalog
    from pipelines.residuals.listing import list_caches

    frame = list_caches(Catalog(where))
    console.table(frame.columns, frame.iter_rows())
    console.text(f"{frame.height} caches")
    console.result({"command": NAME, "columns": frame.columns, "rows": frame.rows()})
    return 0
