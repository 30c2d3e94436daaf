"""Attempts of language agents from JSONL: one attempt per line, with messages, tool calls and a score.

Attempts at one task that begin with the same messages share nodes, as a trie does. Keys of a line:

    task or question   text; groups attempts
    messages           [{"role", "content", "tool_calls"?, "reasoning_content"?}, ...]; roles user, system, assistant, tool, environment
                       a message with "correction": true is what a person said to put the agent right
    score or reward    number; success: true or false
    id                 name of the attempt; model, version: who made it
    errors             positions in `messages` that a judge calls mistakes
    judged             what a judge or verifier said of single messages: [{"at": position, "correct"?, "utility"?, "aligned"?}, ...]
    milestones         names of what was reached; duration_s: seconds
    author             policy, model (default) or human
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.attempts import Node, Turn
from schemas.errors import DataError
from transforms.attempts.judged import ALIGNED, NAMES

KNOWN = {
    "task", "question", "messages", "score", "reward", "success", "id", "model", "version", "errors", "milestones", "duration_s", "author",
    "judged",
}  # fmt: skip
ROLES: dict[str, str] = {
    "user": "user",
    "system": "user",
    "human": "user",
    "assistant": "assistant",
    "tool": "tool",
    "environment": "environment",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One attempt as read, or what is wrong with its line."""

    number: int
    nodes: tuple[Node, ...] = ()
    error: DataError | None = None


def read_traces(lines: Iterator[str]) -> Iterator[Line]:
    """Read attempts line by line; a line that cannot be read is returned with its error and the others go on."""
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            yield Line(number, tuple(_nodes(_parse(text), number)))
        except DataError as error:
            yield Line(number, error=error)


def _parse(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise DataError(f"a line must be an object, not a {type(body).__name__}")
    if unknown := sorted(set(body) - KNOWN):
        raise DataError(f"unknown keys {unknown}; put what else there is into messages. Known: {sorted(KNOWN)}")
    return body


def _nodes(body: dict[str, Any], number: int) -> Iterator[Node]:
    said, mistakes, judged = _turns(body.get("messages")), _positions(body.get("errors", [])), _judged(body.get("judged", []))
    put_right = [m.get("correction") is True for m in body["messages"]]
    pieces = _pieces(said, put_right)
    common: dict[str, Any] = {
        "generator": _text(body, "model"), "version": _whole(body, "version"), "task": _text(body, "task") or _text(body, "question"),
    }  # fmt: skip
    author = body.get("author", "model")
    if author not in ("policy", "model", "human"):
        raise DataError(f"author {author!r} must be policy, model or human")
    last: Node | None = None
    for at, (first, stop) in enumerate(pieces):
        own = [t for turns in said[first:stop] for t in turns]
        mine = any(t.role == "assistant" for t in own)
        who = "human" if put_right[first] else author if mine else "environment"
        fields: dict[str, Any] = {
            "kind": "correction" if put_right[first] else "agent", "author": who, "turns": tuple(own),
            "error": bool(mistakes & set(range(first, stop))) if "errors" in body and mine else None,
        }  # fmt: skip
        fields |= common if mine else {"task": common["task"]}
        if at == len(pieces) - 1:
            fields |= _end(body, number)
        if marks := {k: v for i in range(first, stop) for k, v in judged.get(i, {}).items()}:
            fields["detail"] = {**fields.get("detail", {}), "judge": marks}
        last = last.child(**fields) if last is not None else Node(**fields)
        yield last


def _pieces(said: Sequence[Sequence[Turn]], put_right: Sequence[bool]) -> list[tuple[int, int]]:
    """Cut messages before every word of the agent, and before every correction: a node is what was said and what came back."""
    cuts = [i for i, turns in enumerate(said) if i > 0 and (turns[-1].role == "assistant" or put_right[i])]
    edges = [0, *cuts, len(said)]
    return list(itertools.pairwise(edges))


def _end(body: dict[str, Any], number: int) -> dict[str, Any]:
    score = body.get("score", body.get("reward"))
    if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
        raise DataError(f"score {score!r} is not a number")
    success = body.get("success")
    if success is not None and not isinstance(success, bool):
        raise DataError(f"success {success!r} is not true or false")
    milestones, seconds = body.get("milestones", []), body.get("duration_s")
    if not isinstance(milestones, list) or not all(isinstance(m, str) for m in milestones):
        raise DataError(f"milestones {milestones!r} is not a list of names")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0):
        raise DataError(f"duration_s {seconds!r} is not a number of seconds")
    outcome = float(score) if score is not None else None if success is None else float(success)
    return {
        "outcome": outcome, "success": success, "milestones": tuple(milestones), "duration_s": None if seconds is None else float(seconds),
        "detail": {"attempt": str(body.get("id", number))},
    }  # fmt: skip


def _turns(messages: Any) -> list[tuple[Turn, ...]]:
    if not isinstance(messages, list) or not messages:
        raise DataError("messages must be a list of at least one message")
    return [_turn(m, at) for at, m in enumerate(messages)]


def _turn(message: Any, at: int) -> tuple[Turn, ...]:
    """Return a message as turns: what was thought, where it says so, and what was said."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise DataError(f"message {at}: role must be one of {sorted(ROLES)}")
    role, content, thought = ROLES[message["role"]], message.get("content") or "", message.get("reasoning_content") or ""
    if not isinstance(thought, str):
        raise DataError(f"message {at}: reasoning_content must be text")
    before = (Turn(role, thought, think=True),) if thought else ()
    if isinstance(content, list):  # parts, as multimodal chats have them; other parts than text are kept in the call
        text = "".join(p.get("text", "") for p in content if isinstance(p, dict))
        rest = [p for p in content if not (isinstance(p, dict) and set(p) <= {"type", "text"})]
        return (*before, Turn(role, text, message.get("tool_calls") or rest or None))
    if not isinstance(content, str):
        raise DataError(f"message {at}: content must be text or a list of parts")
    return (*before, Turn(role, content, message.get("tool_calls")))


def _judged(value: Any) -> dict[int, dict[str, float]]:
    """Return what was said of messages, by position."""
    found: dict[int, dict[str, float]] = {}
    for mark in value if isinstance(value, list) else [value]:
        at = mark.get("at") if isinstance(mark, dict) else None
        said = {k: v for k, v in mark.items() if k != "at"} if isinstance(mark, dict) else {}
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in said.values())
        if not isinstance(at, int) or isinstance(at, bool) or not said or not set(said) <= set(NAMES) or not numbers:
            raise DataError(
                f"judged {mark!r} must be an object with `at`, a position in messages, and numbers called {', '.join(NAMES)}"
            )
        if not 0 <= said.get(ALIGNED, 0) <= 1:
            raise DataError(f"judged {mark!r}: {ALIGNED} is a probability, between 0 and 1")
        found[at] = found.get(at, {}) | {k: float(v) for k, v in said.items()}
    return found


def _positions(value: Any) -> set[int]:
    if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        raise DataError(f"errors {value!r} is not a list of positions in messages")
    return set(value)


def _text(body: dict[str, Any], key: Literal["model", "task", "question"]) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{key} {value!r} is not text")
    return value


def _whole(body: dict[str, Any], key: Literal["version"]) -> int | None:
    value = body.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise DataError(f"{key} {value!r} is not a whole number")
    return value
