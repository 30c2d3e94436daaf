"""`cotrain recall`: find what looks or reads like something."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "recall"


def command(
    text: Annotated[str, typer.Argument(help="What to look for, in words.")] = "",
    frame: Annotated[str, typer.Option("--frame", help="A picture to look for: a file, or EPISODE@SECONDS[@CAMERA].")] = "",
    memory: Annotated[str, typer.Option("--memory", help="Name of the memory.")] = "lake",
    build: Annotated[bool, typer.Option("--build", help="Embed what is not embedded yet and build the memory first.")] = False,
    what: Annotated[str, typer.Option("--of", help="With --build: a dataset, a mixture, a condition or a SELECT.")] = "all",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With --build: key=value of the annotator `embedding`.")
    ] = None,
    corrections: Annotated[
        str, typer.Option("--corrections", help="Ask the corrections in these attempts (a name, or all) instead of a memory.")
    ] = "",
    level: Annotated[str, typer.Option("--level", help="With --corrections: only plan, or only skill.")] = "",
    k: Annotated[int, typer.Option("--top", min=1, help="How many to show.")] = 10,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Search a memory exactly and print episodes with time, similarity and task; or past corrections by the context they were given in."""
    from catalog.lake import Lake
    from pipelines.memory.recall import build_memory, recall
    from pipelines.terminal.console import Console
    from schemas.errors import UsageError

    where, console = Lake.at(lake), Console(as_json)
    if corrections:
        return _corrections(console, where, corrections, text, k, level)
    if build:
        rows = build_memory(where, memory, what, key_values(settings))
        console.text(f"recall: memory {memory!r} holds {rows} vectors")
    if not text and not frame:
        if build:
            console.result({"command": NAME, "memory": memory})
            return 0
        raise UsageError("say what to look for: words, or --frame PICTURE")
    if frame and "@" not in frame and not Path(frame).is_file():
        raise UsageError(f"--frame {frame}: there is no such file; or say EPISODE@SECONDS")
    found: list[dict[str, Any]] = recall(where, memory, k, text=text, frame=frame)
    columns = ("score", "episode_id", "seconds", "camera", "task", "success")
    console.table(columns, [tuple(f[c] for c in columns) for f in found], title=text or frame)
    console.result({"command": NAME, "memory": memory, "found": found})
    return 0


def _corrections(console: Any, lake: Any, source: str, text: str, k: int, level: str) -> int:
    from typing import get_args

    from pipelines.memory.corrections import Level, recall_corrections
    from schemas.errors import UsageError

    if not text:
        raise UsageError("say in words what is going on, to find what was corrected then")
    if level and level not in get_args(Level):
        raise UsageError(f"--level {level!r} must be one of {', '.join(get_args(Level))}")
    chosen: Any = level or None
    found = recall_corrections(lake, "" if source == "all" else source, text, k, level=chosen)
    columns = ("score", "level", "correction", "context", "node")
    console.table(columns, [tuple(f[c] for c in columns) for f in found], title=text)
    console.result({"command": NAME, "corrections": source, "found": found})
    return 0
