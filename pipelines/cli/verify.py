"""`cotrain verify`: re-read exports with the formats' own readers."""

from typing import Annotated, Any

import typer

from pipelines.cli.options import DryRunOption, JsonOption, LakeOption

NAME = "verify"


def command(
    out: Annotated[str, typer.Argument(help="An exported folder, the folder several were exported to, or the word lake.")],
    every: Annotated[int, typer.Option("--every", min=1, help="Compare every n-th frame; every step is compared.")] = 10,
    sample: Annotated[
        float, typer.Option("--sample", min=0, max=1, help="With lake: look at this share of the files only.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="With --sample: another seed, other files.")] = 0,
    lake: LakeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Compare exports with the lake, through the formats' own readers; or, as `verify lake`, every file with the catalog.

    Exits with 1 where anything differs.
    """
    import json

    import polars as pl

    from catalog.lake import Lake
    from catalog.tables import Catalog
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import Running, describe, perform, summary
    from pipelines.verify import VerifyStage

    where = Lake.at(lake)
    if out == "lake":
        return _lake(where, Console(as_json), sample, seed)
    stage, running = VerifyStage(where, out, every), Running(Console(as_json))
    if dry_run:
        running.console.result(describe(stage, running))
        return 0
    report = perform(stage, running)
    uris = [u.label for u in stage.plan()]
    rows = Catalog(where).latest("publications").filter(pl.col("uri").is_in(uris)).collect()
    found = [{"uri": r["uri"], "format": r["format"]} | json.loads(r["report"])["verify"] for r in rows.iter_rows(named=True)]
    shown = [
        (f["format"], f["uri"], f["reader"], f["steps_compared"], f["frames_compared"], len(f["differences"]), len(f["warnings"]))
        for f in found
    ]
    running.console.table(("format", "export", "reader", "steps", "frames", "differences", "warnings"), shown)
    if report.worked == 0:
        running.console.text("verify: nothing to do, these exports were verified before and have not changed")
    running.console.result({"command": NAME, "exports": found, **summary(report)})
    return 0


def _lake(where: Any, console: Any, sample: float, seed: int) -> int:
    from pipelines.integrity import verify_lake

    with console.progress("verify lake") as update:
        found = verify_lake(where, update, sample=sample, seed=seed)
    if not found.ok:
        console.table(("file", "problem"), [(f, "missing") for f in found.missing] + [(f, "damaged") for f in found.damaged])
    state = "all as the catalog says" if found.ok else f"{len(found.missing)} missing, {len(found.damaged)} damaged"
    console.text(f"verify lake: {found.files:,} files, {found.bytes / 1e6:,.1f} MB: {state}")
    if not found.ok:
        console.note("run the `cotrain ingest` or `cotrain annotate` that made them again, with --repair")
    console.result(
        {
            "command": NAME,
            "lake": where.root,
            "files": found.files,
            "sample": sample,
            "missing": found.missing,
            "damaged": found.damaged,
        }
    )
    return 0 if found.ok else 1
