"""The one way to a model: kept replies first, bounded retries, replies checked against their schema, failures told apart.

A finished call is a file, written whole or not at all; so whatever dies, nothing that was answered is lost or asked again.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from annotators.text.model.backends import Model, Reply
from annotators.text.model.prompts import Request
from schemas.errors import TransportError

Outcome = Literal["ok", "nothing_there", "reply_not_json", "reply_breaks_schema"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request; `value` is the parsed reply where `outcome` is `ok`, and None otherwise."""

    outcome: Outcome
    value: Any
    tokens: int


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one model.

    Attributes:
        model: who is asked.
        replies: folder of finished calls.
        retries: how often a call that failed is made again.
        wait_s: before the first retry; doubled for each further one.
        sleep: waits; tests count instead.
    """

    model: Model
    replies: Path
    retries: int = 3
    wait_s: float = 1.0
    sleep: Callable[[float], None] = field(default=time.sleep)

    def ask(self, request: Request) -> Answer:
        """Return the answer to a request, from its file where there is one.

        A reply that stays unusable is an answer with the outcome that says so, and is not kept: the next run asks again.

        Raises:
            TransportError: the model cannot be reached, after every retry.
            UsageError: the model refuses.
        """
        path = self._path(request)
        if path.is_file():
            kept = json.loads(path.read_bytes())
            return _read(request, Reply(kept["reply"], kept["tokens"]))
        answer, spent = Answer("reply_not_json", None, 0), 0
        for attempt in range(self.retries + 1):
            try:
                reply = self.model.reply(request, attempt)
            except TransportError as error:
                if attempt == self.retries:
                    error.add_note(f"after {attempt + 1} attempts; finished replies are in {self.replies}, run it again to go on")
                    raise
                self.sleep(self.wait_s * 2**attempt)
                continue
            spent += reply.tokens
            answer = _read(request, Reply(reply.text, spent))
            if answer.outcome in ("ok", "nothing_there"):
                self._keep(path, request, Reply(reply.text, spent))
                return answer
        return answer

    def _path(self, request: Request) -> Path:
        key = request.key(self.model.fingerprint)
        return self.replies / self.model.fingerprint / key[:2] / f"{key}.json"

    def _keep(self, path: Path, request: Request, reply: Reply) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {
            "prompt_fp": request.prompt.fingerprint, "model_fp": self.model.fingerprint, "facts": request.facts, "reply": reply.text,
            "tokens": reply.tokens,
        }  # fmt: skip
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(body, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)


def _read(request: Request, reply: Reply) -> Answer:
    """Parse and check a reply; empty is an answer too: there is nothing there."""
    import jsonschema

    try:
        value = json.loads(reply.text)
    except ValueError:
        return Answer("reply_not_json", None, reply.tokens)
    try:
        jsonschema.validate(value, request.prompt.schema)
    except jsonschema.ValidationError:
        return Answer("reply_breaks_schema", None, reply.tokens)
    if not any(value.values()):
        return Answer("nothing_there", None, reply.tokens)
    return Answer("ok", value, reply.tokens)
