"""`cotrain train-gaze`: train a model of gaze on a selection's own recordings."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "train-gaze"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")] = "all",
    camera: Annotated[
        str | None, typer.Option("--camera", help="Whose pictures. Default: the first that looks where the head does.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:<number>.")] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value: side, frames, hz, width, dim, layers, steps, batch, rate, labels, seed."),
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Train the network behind predicted gaze; the weights are safetensors, named after their content."""
    from annotators.gaze.model import GazeNetSpec
    from catalog.lake import Lake
    from pipelines.gaze_weights import as_document, train_gaze
    from pipelines.terminal.console import Console
    from schemas.settings import parse_settings

    console = Console(as_json)
    trained = train_gaze(Lake.at(lake), what, parse_settings(GazeNetSpec, key_values(settings)), camera, device)
    console.text(f"gaze model of {trained.fixations} fixated pictures in {trained.episodes} episodes: {trained.path}")
    for step, loss in trained.losses:
        console.text(f"  step {step}: loss {loss:.4f}")
    console.result({"command": NAME, **as_document(trained)})
    return 0
