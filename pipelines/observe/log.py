"""Structured log lines through the standard library's `logging`, off unless asked for.

`COTRAIN_LOG=json` writes JSON lines to stderr, `COTRAIN_LOG=json:/var/log/cotrain.jsonl` appends them to a file, `text` and
`text:FILE` the same as `key=value`. A program that configures the logger `cotrain` itself gets every event with its facts in
`record.facts`. Events carry ids, counts and seconds: no data, no credentials.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import UsageError

VARIABLE = "COTRAIN_LOG"
LOG = logging.getLogger("cotrain")
LOG.addHandler(logging.NullHandler())


class _Lines(logging.Formatter):
    """One line per event: time, level and name of the event, then its facts."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if self._form == "json":
            return json.dumps(facts, default=str, ensure_ascii=False)
        return " ".join(f"{k}={json.dumps(v, default=str, ensure_ascii=False)}" for k, v in facts.items())


def configure(wanted: str | None = None) -> None:
    """Follow `COTRAIN_LOG`, or `wanted`; a second call changes nothing.

    Raises:
        UsageError: it asks for something else than json or text, or for a file that cannot be written.
    """
    text = os.environ.get(VARIABLE, "") if wanted is None else wanted
    if not text or any(isinstance(h.formatter, _Lines) for h in LOG.handlers):
        return
    form, _, path = text.partition(":")
    if form not in ("json", "text"):
        raise UsageError(f"{VARIABLE}={text!r} is unknown; use json, text, json:FILE or text:FILE")
    try:
        handler = logging.FileHandler(Path(path), delay=False) if path else logging.StreamHandler()
    except OSError as error:
        raise UsageError(f"{VARIABLE}: cannot write {path}: {error}") from error
    handler.setFormatter(_Lines(form))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)


def event(name: str, level: int = logging.INFO, /, **facts: Any) -> None:
    """Log one event; costs a comparison where nobody listens."""
    if LOG.isEnabledFor(level):
        LOG.log(level, name, extra={"facts": facts})
