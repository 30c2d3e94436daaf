"""`cotrain weigh`: how much more likely episodes are in a target, as a score that mixtures weigh by."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import DryRunOption, JsonOption, LakeOption, names

NAME = "weigh"


def command(
    target: Annotated[str, typer.Option("--target", help="What to look like: a dataset, a mixture, a condition or a SELECT.")],
    prior: Annotated[str, typer.Option("--prior", help="What to weigh, chosen the same way.")] = "all",
    backend: Annotated[
        str, typer.Option("--backend", help="clf (cross-fitted classifier), kde, or nn (nearest neighbour).")
    ] = "clf",
    features: Annotated[
        str, typer.Option("--features", help="Comma-separated features to summarise. Default: shared states and actions.")
    ] = "",
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="Parquet of your own: episode_id and a vector, instead of summaries.")
    ] = None,
    method: Annotated[str, typer.Option("--name", help="Name of the score.")] = "density_ratio",
    lake: LakeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Score episodes of a prior by their density ratio to a target. Running it again does nothing."""
    from typing import Any, cast

    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.terminal.console import Console
    from pipelines.unit import run_stage
    from pipelines.weigh.stage import WeighStage, told

    console, home = Console(as_json), Lake.at(lake)
    path = "" if embeddings is None else str(embeddings)
    stage = WeighStage(home, target, prior, cast("Any", backend), names(features), path, method)
    unit = stage.plan()[0]
    print_ = unit.payload[3]
    if dry_run:
        space = ", ".join(unit.payload[2]) or path
        console.text(f"weigh: {unit.label}: {len(unit.payload[0])} against {unit.episodes} episodes by {space}")
        console.result({"command": NAME, "fingerprint": print_, "episodes": unit.episodes, "features": list(unit.payload[2])})
        return 0
    report = run_stage(stage, execution=Execution(workers=0))
    if report.rejects:
        console.text(f"weigh: {report.rejects[0].message}")
        return 4
    facts = told(home, method, print_)
    status = "wrote" if report.worked else "nothing to do, already wrote"
    console.text(
        f"weigh: {status} {method}@{print_} for {facts['prior_episodes']:,} episodes towards {facts['target_episodes']:,} ({backend})\n"
        f"  effective size {facts['ess']:,.0f} of {facts['prior_episodes']:,}; distance of means to the target "
        f"{facts['moment_residual']:.3f} sd, {facts['moment_residual_unweighted']:.3f} without weights\n"
        f'  use it in a mixture: [[weights]] score = "{method}"'
    )
    console.result({"command": NAME, "method": method, "fingerprint": print_, "fresh": report.worked > 0, **facts})
    return 0
