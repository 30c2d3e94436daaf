"""`cotrain train-lam`: train a latent action model on a selection's own pictures."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values, names

NAME = "train-lam"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")] = "all",
    size: Annotated[str, typer.Option("--config", help="toy (a CPU trains it), small or base.")] = "toy",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: steps, batch, bottleneck, target, horizons_s, shift, ...")
    ] = None,
    cameras: Annotated[str, typer.Option("--cameras", help="Comma-separated. Default: all colour cameras.")] = "",
    hz: Annotated[float | None, typer.Option("--hz", help="At most this many pictures per second. Default: all.")] = None,
    agent: Annotated[
        str,
        typer.Option(
            "--agent", help="What of a segmentation is the agent and counts more: names or values, as in 'right_*,hand,27'."
        ),
    ] = "",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:<number>.")] = "auto",
    out: Annotated[str | None, typer.Option("--out", help="Folder of the checkpoint. Default: in the lake.")] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Train a latent action model; the same command goes on where it was stopped. Give the folder to `annotate --checkpoint`."""
    from annotators.latent.config import sized
    from catalog.lake import Lake
    from pipelines.lam import train_lam
    from pipelines.lam.train import TrainingOptions
    from pipelines.terminal.console import Console

    console = Console(as_json)
    lam = sized(size).changed(key_values(settings))
    options = TrainingOptions(names(cameras), hz, device, agent=names(agent))
    done = train_lam(Lake.at(lake), what, lam, out, options)
    for broken in done.broken:
        console.text(f"left out, it does not decode: {broken}")
    if done.steps:
        console.text(
            f"{done.steps} steps on {done.pairs} pairs of {done.films} films in {done.seconds:.0f} s: {done.frames_per_s:,.0f} frames/s, "
            f"{done.device} {done.device_busy:.0%} busy, {done.wait_share:.0%} of the time waiting for pictures; loss {done.loss:.4g}"
        )
    console.text(f"latent action model: {done.path}" + ("" if done.steps else ", trained already"))
    console.result({"command": NAME, **done.to_dict()})
    return 0
