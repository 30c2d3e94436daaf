"""`cotrain lineage`: where an episode, a mixture or a sample came from, and what became of it."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "lineage"


def command(
    what: Annotated[str, typer.Argument(help="ep-..., a mixture (name or name@hash), or a sample of one (name@hash:number).")],
    lake: LakeOption = None,
    sql: Annotated[bool, typer.Option("--sql", help="Also show the statements, to run them with `cotrain query`.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many rows of each answer.")] = 10,
    as_json: JsonOption = False,
) -> int:
    """Trace data back to its source uri and forward to mixtures and exports, by SQL over the catalog."""
    from catalog.lake import Lake
    from pipelines.terminal.console import Console
    from pipelines.upkeep.lineage import lineage

    console, found = Console(as_json), lineage(Lake.at(lake), what)
    console.text(found.what)
    for step in found.steps:
        if sql:
            console.text(f"-- {step.sql}")
        if step.rows.height:
            arrow = "<-" if step.way == "back" else "->"
            more = f" ({limit} of {step.rows.height})" if step.rows.height > limit else ""
            console.table(step.rows.columns, step.rows.head(limit).iter_rows(), f"{arrow} {step.title}{more}")
    console.text("source: " + (", ".join(found.sources) or "unknown"))
    console.result(
        {"command": NAME, "what": found.what, "sources": found.sources,
         "steps": [{"title": s.title, "way": s.way, "sql": s.sql, "rows": s.rows.to_dicts()} for s in found.steps]}
    )  # fmt: skip
    return 0
