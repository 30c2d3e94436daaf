"""What commands show: progress and notes on stderr, the result on stdout as text or as one JSON document."""

import json
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Console:
    """A command's voice. With `as_json` stdout carries exactly one JSON document."""

    as_json: bool = False

    def note(self, text: str) -> None:
        """Say something that is not the result."""
        sys.stderr.write(text + "\n")

    def text(self, text: str = "") -> None:
        """Print a line of the human-readable result; silent with `--json`."""
        if not self.as_json:
            sys.stdout.write(text + "\n")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
        """Print a table of the human-readable result; silent with `--json`."""
        if self.as_json:
            return
        _wide().print(_table(columns, rows, title))

    @contextmanager
    def live(self) -> Generator[Callable[[str, Sequence[str], Iterable[Sequence[object]]], None]]:
        """Show one table that is replaced in place; the yielded function takes title, columns and rows."""
        from rich.live import Live

        with Live(console=_wide(), auto_refresh=False, screen=sys.stdout.isatty()) as screen:
            yield lambda title, columns, rows: screen.update(_table(columns, rows, title), refresh=True)

    def result(self, document: dict[str, Any]) -> None:
        """Print the JSON document; silent without `--json`."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, default=str, ensure_ascii=False) + "\n")

    @contextmanager
    def progress(self, what: str) -> Generator[Callable[[int, int], None]]:
        """Show a progress bar on stderr; the yielded function takes `(done, total)`."""
        from rich.console import Console as Rich
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Rich(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(what, total=None)

            def update(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield update


def _wide() -> Any:
    """Return rich's console on stdout: as wide as the terminal, and wide enough for tables where there is none."""
    from rich.console import Console as Rich

    out = Rich(file=sys.stdout, highlight=False)
    return out if out.is_terminal else Rich(file=sys.stdout, highlight=False, width=max(out.width, 140))


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[Text(show(value)) for value in row])  # Text: brackets in data are not markup
    return table


def show(value: object) -> str:
    """Format a table cell."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.1f}"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(show, value))
        case _:
            return str(value)


def size(count: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
