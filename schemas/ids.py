"""Identifiers: BLAKE3 over canonical JSON or over bytes. Same content, same id, on every machine."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import Any

from blake3 import blake3

ID_HEX = 20  # 80 bits: no collision expected below 10^11 ids
_SLUG = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,62}$")


def canonical_json(value: object) -> bytes:
    """Encode `value` as JSON with sorted keys, no spaces and no NaN, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain).encode()


def digest(value: object) -> str:
    """Return the 64-digit BLAKE3 hex digest of `value`'s canonical JSON."""
    return blake3(canonical_json(value)).hexdigest()


def bytes_digest(chunks: Iterable[bytes | memoryview]) -> str:
    """Return the 64-digit BLAKE3 hex digest of the concatenated `chunks`."""
    hasher = blake3()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()


def short_id(prefix: str, value: object) -> str:
    """Return `<prefix>-<20 hex digits>` for `value`, for example `ep-5f0c...`."""
    return f"{prefix}-{digest(value)[:ID_HEX]}"


def episode_id(dataset: str, key: str) -> str:
    """Identify an episode by its dataset and its key inside the source; a changed recording keeps its id."""
    return short_id("ep", ["episode", dataset, key])


def unit_id(stage: str, inputs: object, config: object, code: str) -> str:
    """Identify a unit of work by everything its output depends on: inputs, configuration and code version."""
    return short_id("u", [stage, inputs, config, code])


def is_slug(name: str) -> bool:
    """Tell whether `name` may name a dataset, mixture, annotator or camera: safe in paths, SQL and URLs."""
    return bool(_SLUG.match(name))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")
