"""`cotrain train-depth`: train depth codes on a selection's own depth."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "train-depth"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")] = "all",
    camera: Annotated[
        str | None, typer.Option("--camera", help="Which depth camera. Default: the first whose unit is stated.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: codes, width, steps, batch, rate, seed.")
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Train the codes behind depth tokens; the weights are safetensors, named after their content."""
    from annotators.depth.model import DepthCodesSpec
    from catalog.lake import Lake
    from pipelines.depth_codes import as_document, train_depth_codes
    from pipelines.terminal.console import Console
    from schemas.settings import parse_settings

    console = Console(as_json)
    trained = train_depth_codes(Lake.at(lake), what, parse_settings(DepthCodesSpec, key_values(settings)), camera)
    console.text(f"depth codes of {trained.pictures} pictures: {trained.path}")
    console.result({"command": NAME, **as_document(trained)})
    return 0
