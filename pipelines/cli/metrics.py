"""`cotrain metrics`: a lake's figures for Prometheus."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import LakeOption

NAME = "metrics"


def command(
    lake: LakeOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a text file, for the node exporter's textfile collector.")
    ] = None,
    serve: Annotated[
        str | None, typer.Option("--serve", help="Answer scrapes at host:port or :port (this machine only).")
    ] = None,
) -> int:
    """Write or serve units, seconds, frames, rejects, episodes and runs in progress, all from the catalog."""
    from contextlib import suppress

    from catalog.lake import Lake
    from pipelines.observe.metrics import serve_metrics, write_metrics
    from pipelines.terminal.console import Console
    from schemas.errors import UsageError

    if (out is None) == (serve is None):
        raise UsageError("say where: --out FILE or --serve :9100")
    where = Lake.at(lake)
    if out is not None:
        write_metrics(where, out)
        return 0
    server, thread = serve_metrics(where, serve or "")
    Console().note(
        f"metrics of {where.root} at http://{server.server_address[0]}:{server.server_address[1]}/metrics; stop with Ctrl-C"
    )
    with suppress(KeyboardInterrupt):
        thread.join()
    return 0
