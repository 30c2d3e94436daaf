"""`cotrain mix`: a spec becomes a pinned mixture."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import DryRunOption, JsonOption, LakeOption

NAME = "mix"


def command(
    spec: Annotated[Path, typer.Argument(help="Mixture spec, TOML: sources, weights, caps, split, windows.")],
    lake: LakeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Compile a mixture: exact shares, pinned table versions, true quantiles. Running it again does nothing."""
    from dataclasses import asdict

    from catalog.lake import Lake
    from pipelines.mixture.compile import compile_mixture
    from pipelines.mixture.mix import mix
    from pipelines.mixture.shares import render_shares
    from pipelines.terminal.console import Console
    from schemas.mixture import load_spec

    console, where, wanted = Console(as_json), Lake.at(lake), load_spec(spec)
    if dry_run:
        compiled = compile_mixture(where, wanted)
        console.text(f"mix: {wanted.name}@{compiled.hash}, {wanted.samples:,} samples\n{render_shares(compiled.shares)}")
        shares = [asdict(s) for s in compiled.shares]
        console.result({"command": NAME, "name": wanted.name, "hash": compiled.hash, "sources": shares})
        return 0
    made = mix(where, wanted)
    status = "pinned" if made.fresh else "nothing to do, already pinned as"
    console.text(f"mix: {status} {made.name}@{made.hash}, {made.samples:,} samples\n{made.text}\n  {where.path(made.uri)}")
    console.result({"command": NAME, **made.to_dict()})
    return 0
