"""`cotrain attempts`: read attempt trees, look at them, export views of them."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption

NAME = "attempts"
HELP = "Attempt trees: retries, interventions, corrections, agent traces; and the training views made of them."
SourceOption = Annotated[str, typer.Option("--source", help="Only the attempts added under this name.")]


def add(
    what: Annotated[str, typer.Argument(help="A JSONL file of traces, or a selection of episodes.")],
    origin: Annotated[str, typer.Option("--from", help="traces, interventions, corrections or retries.")] = "traces",
    source: Annotated[str, typer.Option("--as", help="Name to list them under.")] = "attempts",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="retries: how finely initial states are told apart.")
    ] = 1e-3,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Read attempts into the lake; a second call does nothing."""
    from typing import get_args

    from catalog.lake import Lake
    from pipelines.attempts.stage import AttemptsStage, Origin
    from pipelines.executors import Execution
    from pipelines.terminal.console import Console
    from pipelines.terminal.stages import exit_code, sentence, summary
    from pipelines.unit import run_stage
    from schemas.errors import UsageError

    if origin not in get_args(Origin):
        raise UsageError(f"--from {origin!r} must be one of {', '.join(get_args(Origin))}")
    console, stage = Console(as_json), AttemptsStage(Lake.at(lake), source, origin, what, tolerance)  # pyright: ignore[reportArgumentType]
    report = run_stage(stage, execution=Execution(workers=0))
    console.text(f"attempts: {sentence(report)}")
    console.result({"command": "attempts add", **summary(report)})
    return exit_code(report)


def ls(lake: LakeOption = None, as_json: JsonOption = False) -> int:
    """List the sources of attempts: trees, nodes, attempts, and how many of them are judged."""
    from catalog.lake import Lake
    from catalog.tables import Catalog
    from pipelines.terminal.console import Console

    console, columns = Console(as_json), ("source", "origin", "of", "trees", "nodes", "attempts", "judged")
    rows = Catalog(Lake.at(lake)).latest("attempts").select(columns).collect()
    console.table(columns, list(rows.iter_rows()), title="attempts")
    console.result({"command": "attempts ls", "sources": rows.to_dicts()})
    return 0


def show(
    tree: Annotated[str, typer.Argument(help="A tree's name, or its beginning; empty: the first.")] = "",
    source: SourceOption = "",
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Draw one tree: who did what, and how it went."""
    from catalog.lake import Lake
    from pipelines.attempts.draw import draw
    from pipelines.attempts.stage import read_attempts
    from pipelines.terminal.console import Console
    from schemas.errors import UsageError
    from transforms.attempts.tree import open_tree

    console, opened = Console(as_json), open_tree(read_attempts(Lake.at(lake), source))
    known = sorted({row["tree"] for row in opened.rows.values()})
    chosen = next((name for name in known if name.startswith(tree)), None)
    if chosen is None:
        raise UsageError(f"there is no tree {tree!r}; there are {len(known)}, such as {known[:3]}")
    console.text(draw(opened, chosen))
    console.result(
        {"command": "attempts show", "tree": chosen, "nodes": [r for r in opened.rows.values() if r["tree"] == chosen]}
    )
    return 0


def export(
    out: Annotated[Path, typer.Argument(help="A .parquet or .jsonl file; must not exist.")],
    view_name: Annotated[
        str,
        typer.Option(
            "--view",
            help="preference, turn_preference, splice, intervention, regenerate, refine, self_correction, process, candidates, thought, "
            "groups, first_error, credit, history, choice.",
        ),
    ] = "preference",
    part: Annotated[str, typer.Option("--part", help="all, train or test; train and test share no run of words.")] = "all",
    test_share: Annotated[float, typer.Option("--test-share", min=0, max=1, help="Share of the questions in test.")] = 0.1,
    source: SourceOption = "",
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write a view of the attempts; `preference` has the columns of TRL's DPO trainer and loads with Hugging Face datasets."""
    from catalog.lake import Lake
    from pipelines.attempts.stage import read_attempts
    from pipelines.attempts.write import write_view
    from pipelines.terminal.console import Console

    rows, tasks = write_view(read_attempts(Lake.at(lake), source), view_name, out, part, test_share)
    console = Console(as_json)
    console.text(f"attempts: {rows} rows of view {view_name}, from attempts at {tasks} tasks, in {out}")
    console.result({"command": "attempts export", "view": view_name, "rows": rows, "tasks": tasks, "out": str(out)})
    return 0


def audit(
    source: SourceOption = "",
    against: Annotated[
        str, typer.Option("--against", help="Attempts whose questions must not be among these: a benchmark's.")
    ] = "",
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Audit attempts: collapsed thoughts, verdicts, gains, contamination; findings go to the table `audits`. Fails where one fails."""
    from dataclasses import asdict

    from catalog.lake import Lake
    from pipelines.attempts.audit import audit_attempts
    from pipelines.terminal.console import Console

    found = audit_attempts(Lake.at(lake), source, against)
    console = Console(as_json)
    for one in found:
        console.text(f"{one.verdict:>14}  {one.metric}: {one.sentence}")
    console.result({"command": "attempts audit", "findings": [asdict(f) for f in found]})
    return 1 if any(f.verdict == "fail" for f in found) else 0


def weigh(
    share: Annotated[float, typer.Argument(min=0, max=1, help="Share of an epoch that corrections are to have.")],
    source: SourceOption = "",
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write weights under which corrections have a share of an epoch; a mixture uses them with `score = "correction_share"`."""
    from catalog.lake import Lake
    from pipelines.attempts.weigh import METHOD, weigh_corrections
    from pipelines.terminal.console import Console

    made, console = weigh_corrections(Lake.at(lake), source, share), Console(as_json)
    console.text(
        f"attempts: corrections are {made.inside} of {made.inside + made.outside} steps ({made.natural:.1%}); score {METHOD!r} makes them {share:.1%}"
    )
    console.result(
        {
            "command": "attempts weigh",
            "score": METHOD,
            "fingerprint": made.fingerprint,
            "inside": made.inside,
            "outside": made.outside,
        }
    )
    return 0


ACTIONS = {"add": add, "ls": ls, "show": show, "export": export, "audit": audit, "weigh": weigh}
