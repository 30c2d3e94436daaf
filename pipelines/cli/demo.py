"""`cotrain demo`: the main job, end to end."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import DryRunOption, JsonOption, LakeOption, WorkersOption

NAME = "demo"


def command(
    lake: LakeOption = None,
    work: Annotated[Path, typer.Option("--work", help="Folder for recordings and exports.")] = Path("demo"),
    data: Annotated[Path | None, typer.Option("--data", help="Folder of real recordings. Default: beside the project.")] = None,
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Record, ingest, annotate, mix, export and verify, on real data where there is some. Running it again does nothing."""
    import time

    from catalog.lake import Lake
    from pipelines.demo.plan import data_folder, make_plan
    from pipelines.demo.run import Demo
    from pipelines.demo.summary import closing
    from pipelines.demo.system import pick_simulator
    from pipelines.executors import Execution
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running

    console, started = Console(as_json), time.perf_counter()
    folder = data or data_folder()
    if dry_run:
        plan = make_plan(work.resolve(), folder)
        rows = [(s.name, s.kind, s.uri, "made by the demo" if s.made else "real", s.about) for s in plan.sources]
        console.table(("source", "kind", "where", "origin", "what"), rows)
        console.result(
            {"command": NAME, "sources": [dict(zip(("name", "kind", "uri"), map(str, r), strict=False)) for r in rows]}
        )
        return 0
    plan = make_plan(work.resolve(), folder, pick_simulator(console.note))
    demo = Demo(Lake.at(lake), plan, Running(console, Execution(workers=workers)))
    report = demo.run()
    seconds = time.perf_counter() - started
    console.text(closing(demo, seconds))
    console.result(
        {"command": NAME, "lake": demo.lake.root, "seconds": round(seconds, 2), "worked": report.worked, "steps": report.steps}
    )
    return 0
