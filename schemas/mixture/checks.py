"""How the tables of a mixture spec are built and their values checked: every refusal names the key and what it may be."""

import math
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from schemas.errors import UsageError
from schemas.ids import is_slug

_REQUIRED = ("name", "samples", "weights", "window", "horizon_s")


def build[T](kind: type[T], raw: Any, where: str) -> T:
    """Build a spec from a parsed table.

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
    known = [f.name for f in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in raw:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            raise UsageError(f"{prefix}{key} is unknown; {f'did you mean {near[0]}?' if near else f'it may be one of {known}'}")
    try:
        return kind(**raw)
    except TypeError:
        missing = [k for k in known if k in _REQUIRED and k not in raw]
        raise UsageError(f"{', '.join(prefix + k for k in missing)} is missing; add it") from None


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
