"""`cotrain record`: simulated expert demonstrations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.options import DryRunOption, JsonOption, WorkersOption, names

if TYPE_CHECKING:
    from pipelines.record.spec import RecordSpec

NAME = "record"


def command(
    out: Annotated[Path, typer.Argument(help="Folder of the recording; episodes it already holds are kept.")],
    simulator: Annotated[
        str, typer.Option("--simulator", help="metaworld, pusht, gymnasium, robosuite, or auto: what works.")
    ] = "auto",
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated task names. Default: the simulator's own.")] = "",
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Episodes per task.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Scene of the first episode of each task.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Width and height of every picture.")] = 128,
    hz: Annotated[int, typer.Option("--hz", help="Recorded steps per second.")] = 20,
    policy: Annotated[
        str, typer.Option("--policy", help="Of gymnasium and robosuite: random, scripted, or module:function.")
    ] = "",
    vary: Annotated[
        str, typer.Option("--vary", help="Factors and their amounts, 0 to 1: colour=0.3,pose=0.5..1 (docs/simulators.md).")
    ] = "",
    factors: Annotated[Path | None, typer.Option("--factors", help="The same as TOML, with named values.")] = None,
    counterfactual: Annotated[
        str,
        typer.Option("--counterfactual", help="Factors to change one at a time, rendering every scene again: colour,lighting."),
    ] = "",
    depth_hz: Annotated[float, typer.Option("--depth-hz", min=0, help="Of metaworld: depth pictures per second.")] = 0,
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Record scripted experts: two cameras, success labels, object poses and segmentation."""
    from dataclasses import replace

    from pipelines.record.factors import Factors
    from pipelines.record.spec import RecordSpec
    from schemas.errors import UsageError

    if vary and factors:
        raise UsageError("--vary and --factors both say what varies; give one of them")
    varied = Factors.from_toml(factors) if factors else Factors.from_text(vary)
    spec = RecordSpec(
        simulator=simulator, tasks=names(tasks), episodes=episodes, seed=seed, size=size, hz=hz, policy=policy,  # pyright: ignore[reportArgumentType]
        factors=varied, counterfactual=names(counterfactual), depth_hz=depth_hz,
    )  # fmt: skip
    if simulator == "gymnasium":
        spec = replace(spec, cameras=("front",), segmentation_hz=0)  # its environments draw one picture and no masks
    elif simulator == "robosuite":
        spec = replace(spec, segmentation_hz=0)
    return _describe(spec, out, as_json) if dry_run else _record(spec, out, workers, as_json)


def _keys(spec: "RecordSpec", out: Path) -> list[str]:
    from pipelines.record.record import episode_keys, episodes, resolve
    from pipelines.record.recording import read_header

    return [key for e in episodes(resolve(spec, read_header(out))[0]) for key in episode_keys(spec, *e)]


def _describe(spec: "RecordSpec", out: Path, as_json: bool) -> int:
    from pipelines.record.recording import existing_keys
    from pipelines.terminal.console import Console

    console, keys = Console(as_json), _keys(spec, out)
    there = sorted(existing_keys(out) & set(keys))
    todo = [k for k in keys if k not in there]
    console.text(f"record: {len(todo)} episodes to record, {len(there)} already in {out}")
    console.table(("episode",), [(key,) for key in todo])
    console.result({"command": NAME, "out": str(out), "to_do": todo, "there": there})
    return 0


def _record(spec: "RecordSpec", out: Path, workers: int | None, as_json: bool) -> int:
    from dataclasses import asdict
    from itertools import count

    from pipelines.record.record import record
    from pipelines.terminal.console import Console

    console, planned, done = Console(as_json), len(_keys(spec, out)), count(1)
    with console.progress("record") as update:
        made = record(spec, out, workers=workers, on_episode=lambda _: update(next(done), planned))
    for note in made.notes:
        console.note(note)
    total = made.episodes + made.skipped
    if made.episodes == 0:
        console.text(f"record: nothing to do, all {total} episodes are already in {out}")
    else:
        rate = made.frames / made.seconds if made.seconds else 0
        console.text(
            f"record: {made.episodes} episodes with {made.simulator} in {made.seconds:.1f} s, {made.frames:,} pictures ({rate:.0f}/s), "
            f"{made.successes} of {total} successful\n  {out}"
        )
    console.result({"command": NAME, "out": str(out), **asdict(made)})
    return 0
