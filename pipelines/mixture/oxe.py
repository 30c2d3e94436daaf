"""Mixes as Open X-Embodiment's loaders write them, `[name, weight]` per dataset: read into a spec, and written from a mixture."""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.formats.dataset_info import tfds_name
from pipelines.mixture.manifest import Mixture
from schemas.errors import UsageError
from schemas.ids import is_slug
from schemas.mixture import MixtureSpec, SourceSpec

type Mix = list[tuple[str, float]]


def read_mix(path: Path, name: str = "") -> Mix:
    """Read a mix from JSON (a list, `{"mix": list}` or lists by name) or from Python source (lists, and dicts of them). Runs nothing.

    Args:
        path: the file.
        name: which of several.

    Raises:
        UsageError: the file is neither, does not hold `name`, or holds several and `name` is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error
    try:
        known = _from_python(text) if path.suffix == ".py" else _from_json(text)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is neither JSON nor Python that holds mixes: {error}") from error
    if not known:
        raise UsageError(f"{path} holds no list of [name, weight]")
    if name and name not in known:
        raise UsageError(f"{path} holds no mix {name!r}; it has {', '.join(sorted(known))}")
    if not name and len(known) > 1:
        raise UsageError(f"{path} holds {len(known)} mixes, choose one with --mix: {', '.join(sorted(known))}")
    return _merged(known[name or next(iter(known))])


def spec_of_mix(mix: Mix, name: str, samples: int, *, balanced: bool) -> MixtureSpec:
    """Return a spec that draws the same mix.

    Args:
        mix: dataset names and weights; names as in the lake, letter case and foreign characters apart.
        name: of the spec.
        samples: number of draws.
        balanced: weights are multiplied by dataset sizes, as those loaders do with `balance_weights=True`.
    """
    sources: dict[str, SourceSpec] = {}
    for dataset, weight in mix:
        slug = _slug(dataset)
        if slug in sources:
            raise UsageError(f"{dataset!r} and another dataset of the mix are both called {slug!r} here; rename one")
        sources[slug] = SourceSpec(slug, weight=weight)
    return MixtureSpec(name, samples, tuple(sources.values()), temperature=1.0 if balanced else 0.0)


def mix_body(mixture: Mixture, shares: Mapping[str, float]) -> dict[str, Any]:
    """Return a mixture as the JSON values `read_mix` reads: shares of draws by dataset, under their TFDS names."""
    mix = [[tfds_name(dataset), share] for dataset, share in shares.items()]
    # Shares are of draws already: balancing would multiply them by dataset sizes once more.
    return {"name": f"{mixture.name}@{mixture.hash[:12]}", "mix": mix, "balance_weights": False}


def _merged(mix: Mix) -> Mix:
    """Add up the weights of a dataset that is named twice; leave out what weighs nothing."""
    total: dict[str, float] = {}
    for name, weight in mix:
        total[name] = total.get(name, 0.0) + weight
    found = [(n, w) for n, w in total.items() if w > 0]
    if not found:
        raise UsageError("every weight of the mix is 0")
    return found


def _slug(name: str) -> str:
    if is_slug(name):
        return name
    found = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name.lower())[:63].lstrip("_.-")
    if not is_slug(found):
        raise UsageError(f"{name!r} cannot name a dataset")
    return found


def _from_json(text: str) -> dict[str, Mix]:
    body = json.loads(text)
    if isinstance(body, list):
        body = {"mix": body}
    rows: dict[Any, Any] = body if isinstance(body, dict) else {}
    return {str(k): mix for k, v in rows.items() if (mix := _as_mix(v)) is not None}


def _from_python(text: str) -> dict[str, Mix]:
    """Read the lists a module assigns to names, and those of its dicts; only literals and names of earlier lists count."""
    lists, named = dict[str, Mix](), dict[str, Mix]()
    for node in ast.parse(text).body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if value is None or not all(isinstance(t, ast.Name) for t in targets):
            continue
        if isinstance(value, ast.Dict):
            for key, one in zip(value.keys, value.values, strict=True):
                mix = lists.get(one.id) if isinstance(one, ast.Name) else _literal(one)
                if isinstance(key, ast.Constant) and mix is not None:
                    named[str(key.value)] = mix
        elif (mix := _literal(value)) is not None:
            lists |= {t.id: mix for t in targets if isinstance(t, ast.Name)}
    return named or lists


def _literal(node: ast.expr) -> Mix | None:
    try:
        return _as_mix(ast.literal_eval(node))
    except (ValueError, TypeError):
        return None


def _as_mix(value: Any) -> Mix | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    rows: Mix = []
    for one in value:
        if not isinstance(one, (list, tuple)) or len(one) != 2:
            return None
        name, weight = one
        if (
            not isinstance(name, str)
            or isinstance(weight, bool)
            or not isinstance(weight, (int, float))
            or not 0 <= weight < math.inf
        ):
            return None
        rows.append((name, float(weight)))
    return rows
