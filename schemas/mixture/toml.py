"""A mixture spec as TOML text: only what differs from the defaults, in the order a person would write it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from schemas.mixture.sources import PhaseSpec, SourceSpec
from schemas.mixture.spec import MixtureSpec
from schemas.mixture.weights import WeightSpec


def to_toml(spec: MixtureSpec) -> str:
    """Return text that `load_spec` reads back as an equal spec."""
    plain = asdict(MixtureSpec("any", 1, (SourceSpec("any"),)))
    body = _differing(asdict(spec), plain) | {"name": spec.name, "samples": spec.samples}
    first = {
        "sources": asdict(SourceSpec("any")),
        "phases": asdict(PhaseSpec(1 << 10, {"any": 1.0})),
        "weights": asdict(WeightSpec(score="any")),
    }
    always = {"sources": ("name", "weight"), "phases": ("samples", "weights"), "weights": ("score", "column")}
    for key, plain in first.items():
        rows = [{k: v for k, v in one.items() if v != plain[k] or k in always[key]} for one in asdict(spec)[key]]
        body[key] = [{k: v for k, v in row.items() if v not in (None, "", (), {})} for row in rows]
    ordered = {k: body[k] for k in ("name", "samples", *body) if body.get(k) not in (None, [], {})}
    return "".join(_table(ordered, ()))


def _differing(body: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in body.items():
        usual = plain.get(key)
        given = _differing(value, usual) if isinstance(value, dict) and isinstance(usual, dict) and usual else value
        if given not in (usual, None, {}):
            found[key] = given
    return found


def _table(body: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Lines of a table: plain values first, then its tables, then its arrays of tables."""
    lines = [f"{_key(k)} = {_value(v)}\n" for k, v in body.items() if not isinstance(v, dict) and not _is_tables(v)]
    for key, value in body.items():
        name = ".".join(map(_key, (*path, key)))
        if isinstance(value, dict):
            inner = {k: v for k, v in value.items() if v is not None}
            lines += [f"\n[{name}]\n", *_table(inner, (*path, key))]
        elif _is_tables(value):
            for one in value:
                lines += [f"\n[[{name}]]\n", *(f"{_key(k)} = {_value(v)}\n" for k, v in one.items())]
    return lines


def _is_tables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(v, dict) for v in value)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)
