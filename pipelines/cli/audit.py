"""`cotrain audit`: measure what a selection teaches and what it cannot."""

from typing import Annotated, Any

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "audit"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")] = "all",
    names: Annotated[
        str, typer.Option("--with", help="coverage, saturation, leakage, collapse, reasoning.")
    ] = "coverage,saturation,leakage",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="audit.key=value, for example collapse.every_s=1.0.")
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Audit a selection. Findings are appended to the ledger (`SELECT * FROM audits`); exit code 1 if one fails."""
    from dataclasses import asdict

    from catalog.lake import Lake
    from pipelines.audit.run import audit
    from pipelines.terminal.console import Console
    from schemas.errors import UsageError

    config: dict[str, dict[str, Any]] = {}
    for key, value in key_values(settings).items():
        name, dot, setting = key.partition(".")
        if not dot:
            raise UsageError(f"--set {key}: name the audit too, as in collapse.every_s=1.0")
        config.setdefault(name, {})[setting] = value
    console = Console(as_json)
    found = audit(Lake.at(lake), what, [n.strip() for n in names.split(",") if n.strip()], config)
    rows = [(f.metric, f.value, f.ci95, f.n, f.verdict, f.sentence) for f in found]
    console.table(("metric", "value", "95% interval", "n", "verdict", "finding"), rows, title=f"audit of {what}")
    console.result({"command": NAME, "what": what, "findings": [asdict(f) for f in found]})
    return int(any(f.verdict == "fail" for f in found))
