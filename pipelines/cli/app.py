"""The command line's root: which commands there are, and how errors become exit codes.

0 done, 1 failed, 2 wrong usage, 3 done with input in quarantine, 4 nothing usable.
"""

import sys

import typer

from pipelines.cli import annotate, demo, doctor, export, ingest, ls, mix, query, record, verify

DONE, FAILED, USAGE, QUARANTINED, NOTHING = 0, 1, 2, 3, 4

app = typer.Typer(
    name="cotrain",
    help="The data factory for robot foundation models: record, ingest, annotate, mix, export, verify.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (record, ingest, query, annotate, mix, export, verify, ls, doctor, demo):
    app.command(name=command.NAME)(command.command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code; errors are one sentence on stderr, never a traceback."""
    import click

    from schemas.errors import CotrainError, DataError, RejectLimitError, UsageError

    try:
        code = app(args=arguments, standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted; what was finished is kept, run the same command to go on", FAILED)
    except UsageError as error:
        return _say(str(error), USAGE)
    except (DataError, RejectLimitError) as error:
        return _say(str(error), NOTHING)
    except CotrainError as error:
        return _say(str(error), FAILED)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"cotrain: {message}\n")
    return code
