"""What the demo says at the end: what it made, how large it is, and the commands to look at it."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.terminal.console import size

if TYPE_CHECKING:
    from pipelines.demo.run import Demo


def closing(demo: "Demo", seconds: float) -> str:
    """Return the closing text."""
    head = (
        f"\ndone in {seconds:.1f} s" if demo.report.worked else f"\nnothing to do: everything was already there ({seconds:.1f} s)"
    )
    made = [
        ("lake", Path(demo.lake.root)),
        ("recordings", demo.plan.recordings),
        *((f"exports/{f.name}", f) for f in sorted(demo.plan.exports.iterdir())),
    ]
    lines = [f"  {name:16} {size(folder_bytes(path)):>9}  {path}" for name, path in made]
    cotrain = _command()
    look = [
        "ls episodes",
        'query "SELECT source, count(*), sum(duration_s) FROM episodes GROUP BY source"',
        'query "SELECT text, count(*) AS n FROM language_motion GROUP BY text ORDER BY n DESC LIMIT 10"',
        f"verify {demo.plan.exports}",
    ]
    return "\n".join(
        [head, *lines, "", "look at it:", f"  open {demo.lake.report('demo.html')}", *(f"  {cotrain} {line}" for line in look)]
    )


def _command() -> str:
    """Return how to call cotrain from this shell: make does not activate the environment it made."""
    if shutil.which("cotrain"):
        return "cotrain"
    script, here = Path(sys.executable).with_name("cotrain"), Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


def folder_bytes(folder: Path) -> int:
    """Return the size of every file below `folder`."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
