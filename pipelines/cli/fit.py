"""`cotrain fit`: train a small model on a selection that says what to draw more of."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "fit"
METHODS = {"deminf": "pipelines.fit.deminf:DemInf", "odice": "pipelines.fit.odice:Odice"}


def command(
    method: Annotated[str, typer.Argument(help="deminf and odice write scores; remix prints domain weights.")],
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")] = "all",
    by: Annotated[str, typer.Option("--by", help="remix: the episodes column that names a domain.")] = "dataset",
    log: Annotated[
        Path | None, typer.Option("--log", help="remix: a trainer's own excess log (Parquet) in place of the small proxy.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the method's configuration.")] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fit once per content and configuration; a second call does nothing. Use the scores in a mixture's weights."""
    from catalog.lake import Lake
    from pipelines.terminal.console import Console
    from schemas.errors import UsageError

    console, where, config = Console(as_json), Lake.at(lake), key_values(settings)
    if method == "remix":
        return _remix(console, where, what, by, log, config)
    if method not in METHODS:
        raise UsageError(f"there is no fitter {method!r}; there are {sorted([*METHODS, 'remix'])}")
    from importlib import import_module

    from pipelines.executors import Execution
    from pipelines.fit.stage import FitStage
    from pipelines.unit import run_stage
    from schemas.settings import parse_settings

    module, _, name = METHODS[method].partition(":")
    stage = FitStage(where, parse_settings(getattr(import_module(module), name), config), what)
    report = run_stage(stage, execution=Execution(workers=0))
    rows = report.total("rows")
    text = (
        f"{rows} scores written as method {method!r}, fingerprint {stage.fingerprint}"
        if report.worked
        else "nothing to do, already fitted"
    )
    if report.rejects:
        text = f"not fitted: {report.rejects[0].message}"
    console.text(f"fit {method}: {text}")
    console.result(
        {"command": NAME, "method": method, "fingerprint": stage.fingerprint, "rows": rows, "fresh": report.worked > 0}
    )
    return int(bool(report.rejects))


def _remix(console: Any, lake: Any, what: str, by: str, log: Path | None, config: dict[str, Any]) -> int:
    from pipelines.fit.remix import Remix
    from pipelines.selection import choose
    from schemas.settings import parse_settings
    from transforms.remix import RemixConfig, fit_shares

    episodes = choose(lake, what).episodes
    if log is None:
        fitted, _ = parse_settings(Remix, config).fit(lake, episodes, by)
    else:
        import pyarrow.parquet as pq

        fitted = fit_shares(pq.read_table(log), _sizes(episodes, by), parse_settings(RemixConfig, config))
    rows = [
        (name, float(p), float(s), float(x))
        for name, p, s, x in zip(fitted.domains, fitted.path[0], fitted.shares, fitted.excess, strict=True)
    ]
    console.table(("domain", "prior", "Re-Mix", "mean excess loss"), rows, title=f"domain weights by {by}")
    console.text("\n".join(f'[[sources]]\nname = "{name}"\nweight = {share:.6g}' for name, _, share, _ in rows))
    console.result({"command": NAME, "method": "remix", "by": by, "weights": fitted.weights()})
    return 0


def _sizes(episodes: Any, by: str) -> dict[str, float]:
    return {str(name): float(rows["steps"].sum()) for (name,), rows in episodes.group_by(by)}
