"""The command line's root: which commands there are, and how errors become exit codes.

0 done, 1 failed, 2 wrong usage, 3 done with input in quarantine, 4 nothing usable.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from pipelines.cli import (
    annotate,
    attempts,
    audit,
    cache,
    curate,
    demo,
    doctor,
    export,
    fit,
    gc,
    ingest,
    lineage,
    lint,
    ls,
    maintain,
    metrics,
    mix,
    query,
    recall,
    record,
    standardize,
    top,
    train_controller,
    train_depth,
    train_gaze,
    train_lam,
    train_tokenizer,
    triplets,
    verify,
    weigh,
)  # fmt: skip

DONE, FAILED, USAGE, QUARANTINED, NOTHING = 0, 1, 2, 3, 4

app = typer.Typer(
    name="cotrain",
    help="The data factory for robot foundation models: record, ingest, annotate, mix, export, verify.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _exiting(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn the exit code a command returns into the exit typer expects; None goes on to the sub-command."""

    @wraps(command)
    def run_command(*args: Any, **kwargs: Any) -> None:
        code = command(*args, **kwargs)
        if code is not None:
            raise typer.Exit(code)

    return run_command


for module in (
    record, ingest, query, standardize, lint, train_tokenizer, train_depth, train_gaze, train_lam, annotate, triplets, train_controller, fit, audit, weigh, cache, export, verify, ls, lineage, top, metrics, maintain, gc, recall, doctor, demo,
):  # fmt: skip
    app.command(name=module.NAME)(_exiting(module.command))


def _group(module: Any, **options: Any) -> typer.Typer:
    group = typer.Typer(help=module.HELP, rich_markup_mode=None, pretty_exceptions_enable=False, **options)
    for name, action in module.ACTIONS.items():
        group.command(name=name)(_exiting(action))
    app.add_typer(group, name=module.NAME)
    return group


_group(curate).callback(invoke_without_command=True)(_exiting(curate.command))
_group(mix, cls=mix.Group, no_args_is_help=True)
_group(attempts, no_args_is_help=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code; errors are one sentence on stderr, never a traceback."""
    try:
        app(args=arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        return _say("interrupted; what was finished is kept, run the same command to go on", FAILED)
    except Exception as error:
        return _explain(error)
    return DONE


def _explain(error: Exception) -> int:
    from catalog.outage import is_outage, outage
    from schemas.errors import CotrainError, DataError, RejectLimitError, UsageError

    match error:
        case UsageError():
            return _say(str(error), USAGE)
        case DataError() | RejectLimitError():
            return _say(str(error), NOTHING)
        case CotrainError():
            return _say(str(error), FAILED)
        case _ if is_outage(error):
            return _say(str(outage("this command works on", error)), FAILED)
        case _:
            raise error


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"cotrain: {message}\n")
    return code
