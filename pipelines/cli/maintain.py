"""`cotrain maintain`: the upkeep of a lake, for a nightly timer: sweep, compact, vacuum."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "maintain"


def command(
    lake: LakeOption = None,
    older_than_h: Annotated[
        float, typer.Option("--older-than-h", min=0, help="Leave temporary files younger than this alone.")
    ] = 24,
    keep_versions_h: Annotated[
        float, typer.Option("--keep-versions-h", min=0, help="Keep unpinned versions of the catalog readable for so long.")
    ] = 720,
    as_json: JsonOption = False,
) -> int:
    """Remove what killed runs left, merge the catalog's small files, drop old versions that nothing pins. Runs may go on meanwhile."""
    from catalog.lake import Lake
    from pipelines.terminal.console import Console, size
    from pipelines.upkeep.maintain import maintain

    console, where = Console(as_json), Lake.at(lake)
    done = maintain(where, older_than_s=older_than_h * 3600, keep_versions_h=keep_versions_h)
    if done.tables:
        console.table(("table", "files", "after compaction", "old files removed"), done.tables)
    console.text(
        f"maintain: {done.swept.files} leftovers ({size(done.swept.bytes)}) and {done.swept.receipts} receipts removed, "
        f"{len(done.compacted)} tables compacted, {sum(done.vacuumed.values())} old catalog files removed"
    )
    console.result(
        {"command": NAME, "lake": where.root, "leftovers": done.swept.files, "receipts": done.swept.receipts, "compacted": done.compacted,
         "vacuumed": done.vacuumed}
    )  # fmt: skip
    return 0
