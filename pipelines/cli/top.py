"""`cotrain top`: what is running in a lake, and what ran last."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "top"


def command(
    lake: LakeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot and stop.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between looks.")] = 2,
    last: Annotated[int, typer.Option("--last", min=0, help="How many ended runs to show.")] = 10,
    as_json: JsonOption = False,
) -> int:
    """Show runs with their progress, pace, rejects, hosts and time left; live until Ctrl-C."""
    import time
    from contextlib import suppress
    from dataclasses import asdict

    from catalog.lake import Lake
    from pipelines.observe.top import COLUMNS, snapshot
    from pipelines.terminal.console import Console

    console, where = Console(as_json), Lake.at(lake)
    if once or as_json:
        lines = snapshot(where, last=last)
        console.table(COLUMNS, [line.cells() for line in lines])
        going = sum(line.state not in ("ended", "stopped") for line in lines)
        console.text(f"top: {going} running, {len(lines) - going} ended")
        console.result({"command": NAME, "lake": where.root, "runs": [asdict(line) for line in lines]})
        return 0
    with suppress(KeyboardInterrupt), console.live() as show:
        while True:
            show(f"cotrain top {where.root}", COLUMNS, [line.cells() for line in snapshot(where, last=last)])
            time.sleep(every)
    return 0
