"""`cotrain export`: episodes become a dataset in another format."""

from typing import Annotated

import typer

from pipelines.cli.options import (
    DryRunOption,
    ExecutorOption,
    JsonOption,
    LakeOption,
    LimitOption,
    SchedulerOption,
    WorkersOption,
    names,
)

NAME = "export"


def command(
    what: Annotated[str, typer.Argument(help="A mixture, a dataset, a condition or a SELECT that returns episode_id.")],
    to: Annotated[str, typer.Option("--to", help="Format: lerobot, lerobot-v21, rlds, webdataset, ...")],
    out: Annotated[str, typer.Option("--out", help="Folder or URL; every dataset becomes a folder below it.")],
    sources: Annotated[str, typer.Option("--sources", help="Only these kinds, for example robot,sim.")] = "",
    fps: Annotated[int | None, typer.Option("--fps", min=1, help="Frame rate of the export. Default: the control rate.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Lay episodes on the --fps grid by time, not one row per step.")
    ] = False,
    jpeg_quality: Annotated[
        int, typer.Option("--jpeg-quality", min=1, max=100, help="RLDS and WebDataset images not JPEG yet.")
    ] = 95,
    val_share: Annotated[float, typer.Option("--val-share", min=0, max=0.9, help="Share of groups in val, by hash.")] = 0.1,
    split: Annotated[str, typer.Option("--split", help="Who holds out: auto, mixture, source, hash or none.")] = "auto",
    accept: Annotated[
        list[str] | None, typer.Option("--accept-licence", help="A restricted licence or dataset to allow.")
    ] = None,
    features_of: Annotated[str, typer.Option("--features-of", help="Annotators whose numbers become features.")] = "",
    tables_of: Annotated[str, typer.Option("--tables-of", help="Annotators whose side tables go along.")] = "",
    privileged: Annotated[bool, typer.Option("--privileged", help="Also export simulator state and segmentation.")] = False,
    push_to: Annotated[str | None, typer.Option("--push", help="Also upload to this hub repository, organisation/name.")] = None,
    lake: LakeOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Export to LeRobot, RLDS or WebDataset; encoded bytes are copied where they can be. Running it again does nothing."""
    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.export import ExportStage, PartsStage, push_all, write_mix_file
    from pipelines.exporters.base import ExportOptions
    from pipelines.exporters.splits import MODES
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running, describe, exit_code, perform, sentence, summary
    from schemas.errors import UsageError

    if split not in MODES:
        raise UsageError(f"--split {split!r} is unknown; use one of {', '.join(MODES)}")
    options = ExportOptions(
        fps=fps, resample=resample, jpeg_quality=jpeg_quality, split=split, val_share=val_share, privileged=privileged,
        features_of=names(features_of), tables_of=names(tables_of),
    )  # fmt: skip
    stage = ExportStage(Lake.at(lake), what, to, out, names(sources), options, tuple(accept or ()))
    execution = Execution(executor, workers, scheduler)  # pyright: ignore[reportArgumentType]
    running = Running(Console(as_json), execution, limit)
    left_out = stage.left_out()
    for dataset, count in left_out.items():
        running.console.note(f"left out: {dataset} ({count} episodes): not of the wanted kind, or without actions")
    if dry_run:
        running.console.result(describe(stage, running))
        return 0
    if running.execution.workers != 0:
        perform(PartsStage(stage), running)  # large datasets first, part by part; small ones have none
    report = perform(stage, running)
    plans = [u.payload[0] for u in stage.plan()]
    mix_file = write_mix_file(stage.lake, plans, out)
    folders = [plan.folder for plan in plans]
    running.console.text(sentence(report) + "".join(f"\n  {folder}" for folder in folders))
    if mix_file:
        running.console.text(f"mix file for Octo and OpenVLA: {mix_file}")
    document = {"command": NAME, "format": to, "folders": folders, "left_out": left_out, **summary(report)}
    if push_to and not report.count("failed"):
        document["pushed"] = push_all(stage.lake, plans, push_to)
        running.console.text("".join(f"pushed to {address}\n" for address in document["pushed"]).rstrip())
    running.console.result(document)
    return exit_code(report)
