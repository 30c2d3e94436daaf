"""`cotrain train-controller`: map a dataset's own actions to latent actions and back."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "train-controller"


def command(
    what: Annotated[
        str, typer.Argument(help="Episodes of one dataset: its name, a condition or a SELECT that returns episode_id.")
    ] = "all",
    latents: Annotated[
        str, typer.Option("--latents", help="Annotator whose latents: latent_action, flow_latent.")
    ] = "latent_action",
    fingerprint: Annotated[str | None, typer.Option("--fingerprint", help="Which annotation. Default: the newest.")] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Whose latents. Default: the first.")] = None,
    horizon: Annotated[float | None, typer.Option("--horizon", help="Of the latents, in seconds. Default: the shortest.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: samples, width, layers, steps, batch, rate, seed.")
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fit a controller to annotated latents; what it is worth is measured on episodes it has not seen."""
    from annotators.latent.controller.model import ControllerSpec
    from catalog.lake import Lake
    from pipelines.lam.controller import as_document, train_controller
    from pipelines.terminal.console import Console
    from schemas.settings import parse_settings

    console = Console(as_json)
    spec = parse_settings(ControllerSpec, key_values(settings))
    trained = train_controller(Lake.at(lake), what, latents, spec, fingerprint, camera, horizon)
    console.text(f"controller of {trained.action}, fitted to {trained.fitted} intervals: {trained.path}")
    for report in trained.reports:
        beside = ", ".join(f"{name} {value:.3f}" for name, value in report.baselines.items())
        console.text(f"  {report.metric} {report.value or float('nan'):.3f} ({beside}): {report.gate}")
    console.result({"command": NAME, **as_document(trained)})
    return 0
