"""`cotrain mix`: a spec becomes a pinned mixture; mixtures compared, varied, and exchanged with other loaders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pipelines.cli.options import DryRunOption, JsonOption, LakeOption

if TYPE_CHECKING:
    from catalog.lake import Lake
    from pipelines.mixture.compile import Compiled
    from pipelines.mixture.manifest import Mixture

NAME = "mix"
HELP = "Compile a mixture spec (`cotrain mix spec.toml`), or compare, vary and exchange mixtures."
COMPILE = "spec"


class Group(TyperGroup):
    """`cotrain mix spec.toml` means `cotrain mix spec spec.toml`: whatever is no sub-command is what to compile."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the sub-command that may be left out in front."""
        named = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else [COMPILE, *args])


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


def diff(
    first: Annotated[str, typer.Argument(help="A mixture, NAME[@HASH], or a spec (.toml), which is compiled and not written.")],
    second: Annotated[str, typer.Argument(help="The same.")],
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say what two mixtures do not share: spec, shares, episodes, order."""
    from catalog.lake import Lake
    from pipelines.mixture.diff import compare
    from pipelines.terminal.console import Console

    console, home = Console(as_json), Lake.at(lake)
    found = compare(_side(home, first), _side(home, second))
    console.text(found.text)
    console.result({"command": "mix diff", **found.to_dict()})
    return 0


def ablate(
    spec: Annotated[Path, typer.Argument(help="Mixture spec whose sources name their modality.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the siblings' specs. Default: beside the spec.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Write sibling specs: all modalities, each left out, the robot's own, and each added to it."""
    from pipelines.mixture.ablate import family
    from pipelines.terminal.console import Console
    from schemas.mixture import load_spec
    from schemas.mixture.toml import to_toml

    console, folder = Console(as_json), out or spec.parent
    siblings = family(load_spec(spec))
    folder.mkdir(parents=True, exist_ok=True)
    written = {suffix: folder / f"{one.name}.toml" for suffix, one in siblings.items()}
    for suffix, path in written.items():
        path.write_text(to_toml(siblings[suffix]), encoding="utf-8")
        console.text(f"mix ablate: {suffix}: {len(siblings[suffix].sources)} sources, {path}")
    console.result({"command": "mix ablate", "siblings": {k: str(v) for k, v in written.items()}})
    return 0


def import_mix(
    file: Annotated[Path, typer.Argument(help="JSON or Python file with lists of [dataset, weight], as Octo and OpenVLA have.")],
    name: Annotated[str, typer.Option("--as", help="Name of the mixture.")],
    samples: Annotated[int, typer.Option("--samples", min=1, help="Number of draws.")],
    mix_name: Annotated[str, typer.Option("--mix", help="Which mix of the file, where it holds several.")] = "",
    balanced: Annotated[
        bool,
        typer.Option(
            "--balanced/--unbalanced", help="Weights count per step of a dataset (balance_weights=True) or as they are."
        ),
    ] = True,
    out: Annotated[Path | None, typer.Option("--out", help="TOML file. Default: NAME.toml here.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Turn a mix of Open X-Embodiment's loaders into a mixture spec."""
    from pipelines.mixture.oxe import read_mix, spec_of_mix
    from pipelines.terminal.console import Console
    from schemas.mixture.toml import to_toml

    spec, path = spec_of_mix(read_mix(file, mix_name), name, samples, balanced=balanced), out or Path(f"{name}.toml")
    path.write_text(to_toml(spec), encoding="utf-8")
    console = Console(as_json)
    console.text(f"mix import: {len(spec.sources)} sources, {path}")
    console.result({"command": "mix import", "name": name, "sources": [s.name for s in spec.sources], "path": str(path)})
    return 0


def export_mix(
    mixture: Annotated[str, typer.Argument(help="A mixture, NAME[@HASH].")],
    out: Annotated[Path, typer.Option("--out", help="JSON file.")],
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write a mixture's realised shares as a mix of Open X-Embodiment's loaders: dataset names and weights."""
    import json

    from catalog.lake import Lake
    from pipelines.exporters.rlds.mix import dataset_shares
    from pipelines.mixture.manifest import open_mixture
    from pipelines.mixture.oxe import mix_body
    from pipelines.terminal.console import Console

    name, _, wanted = mixture.partition("@")
    found = open_mixture(Lake.at(lake), name, wanted or None)
    body = mix_body(found, dataset_shares(found))
    out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    console = Console(as_json)
    console.text(f"mix export: {len(body['mix'])} datasets, {out}")
    console.result({"command": "mix export", "path": str(out), **body})
    return 0


ACTIONS = {COMPILE: command, "diff": diff, "ablate": ablate, "import": import_mix, "export": export_mix}


def _side(lake: "Lake", text: str) -> "Mixture | Compiled":
    from pipelines.mixture.compile import compile_mixture
    from pipelines.mixture.manifest import open_mixture
    from schemas.mixture import load_spec

    if text.endswith(".toml"):
        return compile_mixture(lake, load_spec(text))
    name, _, wanted = text.partition("@")
    return open_mixture(lake, name, wanted or None)
