"""How specs are read from TOML, their tables built and their values checked: every refusal names the key and what it may be."""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from schemas.errors import UsageError
from schemas.ids import is_slug


def load_toml[T](path_or_text: str | Path, build_from: Callable[[Mapping[str, Any]], T], what: str) -> T:
    """Read a TOML file, or TOML text (any string with a line break or `=`), and build a spec from it.

    Raises:
        UsageError: the file is missing, is not TOML, or says something impossible; the message names file and key.
    """
    text, where = _read(path_or_text, what)
    try:
        return build_from(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _read(path_or_text: str | Path, what: str) -> tuple[str, str]:
    if isinstance(path_or_text, str) and ("\n" in path_or_text or "=" in path_or_text):
        return path_or_text, f"the {what} spec"
    path = Path(path_or_text)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except OSError as error:
        raise UsageError(f"{path}: the {what} spec cannot be read ({error.strerror}); give the path of a TOML file") from error


def build[T](kind: type[T], raw: Any, where: str) -> T:
    """Build a spec from a parsed table; lists become tuples.

    Args:
        kind: the spec's dataclass.
        raw: the table.
        where: its place in the file, for messages; empty at the top.

    Raises:
        UsageError: it is no table, or a key is unknown, missing or holds an impossible value.
    """
    prefix = f"{where}." if where else ""
    if not isinstance(raw, Mapping):
        raise UsageError(f"{where} is {raw!r}; it must be a table")
    every = fields(kind)  # pyright: ignore[reportArgumentType]
    known = [f.name for f in every]
    for key in raw:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            raise UsageError(f"{prefix}{key} is unknown; {f'did you mean {near[0]}?' if near else f'it may be one of {known}'}")
    needed = [f.name for f in every if f.default is MISSING and f.default_factory is MISSING]
    if missing := [prefix + name for name in needed if name not in raw]:
        raise UsageError(f"{', '.join(missing)} is missing; add it")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})
    except TypeError as error:
        raise UsageError(f"{where or 'the spec'} holds a value of the wrong type: {error}") from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return what to say after an unknown name: the nearest known one, else all of them."""
    every = list(known)
    near = get_close_matches(name, every, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(every)}"


def slug(key: str, value: Any) -> None:
    """Check a name."""
    if not isinstance(value, str) or not is_slug(value):
        raise UsageError(f"{key} is {value!r}; use lower-case letters, digits, '.', '_' and '-', at most 63")


def text(key: str, value: Any) -> None:
    """Check that a value is text."""
    if not isinstance(value, str):
        raise UsageError(f"{key} is {value!r}; it must be text")


def choice(key: str, value: Any, known: tuple[str, ...]) -> None:
    """Check that a value is one of `known`."""
    if value not in known:
        raise UsageError(f"{key} is {value!r}; it must be one of {', '.join(known)}")


def whole(key: str, value: Any, low: int, high: int) -> None:
    """Check a whole number, both ends included."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{key} is {value!r}; it must be a whole number from {low} to {high}")


def as_floats(spec: Any, *names: str) -> None:
    """Store whole numbers as floats, so that equal specs have equal JSON and equal hashes."""
    for name in names:
        value = getattr(spec, name)
        object.__setattr__(spec, name, None if value is None else float(value))


def number(key: str, value: Any, low: float, high: float, want: str, *, strict: bool = False, upper: bool = False) -> None:
    """Check `low <= value < high` (`<` with `strict`, `<=` high with `upper`); infinities and NaN never pass."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or (strict and value == low) or value > high or (value == high and not upper):
        raise UsageError(f"{key} is {value!r}; it must be {want}")


def truth(key: str, value: Any) -> None:
    """Check that a value is true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{key} is {value!r}; say true or false")


def tables[T](kind: type[T], raw: Any, name: str) -> tuple[T, ...]:
    """Build every table of an array of tables called `name`."""
    if not isinstance(raw, (list, tuple)):
        raise UsageError(f"{name} must be a list: write [[{name}]] with two brackets, once per {name.rstrip('s')}")
    return tuple(build(kind, one, f"{name}[{i}]") for i, one in enumerate(raw))
