"""`cotrain query`: SQL over the catalog."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "query"


def command(
    statement: Annotated[str, typer.Argument(help="A SELECT over the catalog's tables.")],
    lake: LakeOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Answer a question with SQL: SELECT source, count(*), sum(duration_s) FROM episodes GROUP BY source."""
    import sys

    from catalog.lake import Lake
    from catalog.query import Query
    from catalog.tables import Catalog
    from pipelines.terminal.console import Console

    console = Console(as_json)
    frame = Query(Catalog(Lake.at(lake))).sql(statement)
    if csv and not as_json:
        sys.stdout.write(frame.write_csv())
        return 0
    console.table(frame.columns, frame.iter_rows())
    console.text(f"{frame.height} rows")
    console.result({"command": NAME, "columns": frame.columns, "rows": frame.rows()})
    return 0
