"""Options that several commands share, declared once."""

from collections.abc import Sequence
from typing import Annotated

import typer

LakeOption = Annotated[str | None, typer.Option("--lake", help="Lake root, any fsspec URL. Default: $COTRAIN_LAKE, else ./lake.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done (units, bytes, columns) and stop.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Do at most this many units, the same ones every time.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=0, help="Worker processes; 0 works in this process.")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="Where units run: local or dask.")]
SchedulerOption = Annotated[str | None, typer.Option("--scheduler", help="Dask scheduler to use, for example tcp://host:8786.")]
BudgetOption = Annotated[
    float | None, typer.Option("--budget-s", help="Start no unit after this many seconds; finish what is open.")
]
RepairOption = Annotated[bool, typer.Option("--repair", help="Make missing or damaged files of finished units again.")]
RejectsOption = Annotated[
    float, typer.Option("--max-rejects", min=0, max=1, help="Stop when more than this share of episodes is rejected.")
]


def key_values(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read what `--set` was given: `key=value`, several times.

    Raises:
        UsageError: one of them has no `=`.
    """
    from schemas.errors import UsageError

    if wrong := [pair for pair in pairs or () if "=" not in pair]:
        raise UsageError(f"--set {wrong[0]!r} is not key=value")
    return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs or ())}


def names(text: str) -> tuple[str, ...]:
    """Read a list of names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
