"""`cotrain gc`: remove files that nothing rests on any more."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "gc"


def command(
    lake: LakeOption = None,
    keep_mixtures: Annotated[
        int | None, typer.Option("--keep-mixtures", min=1, help="Keep the newest n versions of each mixture, and exported ones.")
    ] = None,
    older_than_h: Annotated[float, typer.Option("--older-than-h", min=0, help="Leave files younger than this alone.")] = 24,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Remove replaced shards and side tables that no mixture pins, and shards of units that never finished."""
    from catalog.lake import Lake
    from pipelines.terminal.console import Console, size
    from pipelines.upkeep.gc import collect_garbage

    console, where = Console(as_json), Lake.at(lake)
    found = collect_garbage(where, dry_run=dry_run, keep_mixtures=keep_mixtures, older_than_s=older_than_h * 3600)
    if found.garbage:
        console.table(("file", "size", "why"), [(g.path, size(g.bytes), g.kind) for g in found.garbage[:50]])
    verb = "would be removed" if dry_run else "removed"
    young = f", {found.kept_young} younger than {older_than_h:g} h left alone" if found.kept_young else ""
    console.text(f"gc: {len(found.garbage)} files, {size(found.bytes)} {verb}{young}")
    console.result(
        {"command": NAME, "lake": where.root, "dry_run": dry_run, "bytes": found.bytes, "kept_young": found.kept_young,
         "files": [{"path": g.path, "bytes": g.bytes, "kind": g.kind} for g in found.garbage]}
    )  # fmt: skip
    return 0
