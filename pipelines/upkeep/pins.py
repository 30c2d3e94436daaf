"""Which mixtures are alive, and which versions of the catalog's tables they hold on to.

A mixture is alive while its manifest lies in the lake. Its row in `mixtures` stays for ever, as every row does.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.manifest import INDEX_FILE, MANIFEST, read_index


@dataclass(frozen=True, slots=True)
class LiveMixture:
    """A mixture whose manifest is there. `committed_ns` orders the versions of one name."""

    name: str
    hash: str
    uri: str
    committed_ns: int
    pins: tuple[dict[str, int | None], ...]

    def index(self, lake: Lake) -> pl.DataFrame:
        """Return its index: one row per episode (or run of steps) and source.

        Raises:
            LakeError: it is missing or damaged.
        """
        return read_index(lake, lake.path(self.uri, INDEX_FILE)).frame()


def live_mixtures(lake: Lake, *, keep: int | None = None) -> list[LiveMixture]:
    """Return every live mixture, oldest first; with `keep` only the newest so many of each name, and those that were exported.

    The pins are those of every row a mixture has and of its manifest: mixed again, it may name other versions for the same content.
    """
    catalog = Catalog(lake)
    rows = catalog.scan("mixtures").select("name", "hash", "uri", "pins", "committed_ns").sort("committed_ns").collect()
    found: dict[tuple[str, str], LiveMixture] = {}
    for name, digest, uri, pins, at in rows.iter_rows():
        known = found.get((name, digest))
        manifest = () if known else _manifest_pins(lake, f"{uri}/{MANIFEST}")
        if known is None and not manifest:
            continue
        before = known.pins if known else manifest
        found[name, digest] = LiveMixture(name, digest, uri, at, (*before, json.loads(pins or "{}")))
    mixtures = sorted(found.values(), key=lambda m: m.committed_ns)
    if keep is None:
        return mixtures
    exported = set(catalog.latest("publications").select("mixture", "mixture_hash").collect().iter_rows())
    return [
        m for m in mixtures
        if (m.name, m.hash) in exported or sum(o.name == m.name and o.committed_ns > m.committed_ns for o in mixtures) < keep
    ]  # fmt: skip


def pinned_versions(lake: Lake) -> dict[str, set[int]]:
    """Return per table the versions that a live mixture or an export names."""
    found: dict[str, set[int]] = defaultdict(set)
    named = [pins for mixture in live_mixtures(lake) for pins in mixture.pins]
    for pins in (*named, *_exported_pins(lake)):
        for table, version in pins.items():
            if version is not None:
                found[table].add(version)
    return dict(found)


def _manifest_pins(lake: Lake, path: str) -> tuple[dict[str, int | None], ...]:
    try:
        body: dict[str, Any] = json.loads(lake.fs.cat_file(lake.path(path)))
    except FileNotFoundError:
        return ()
    except ValueError:
        return ({},)  # damaged: alive all the same, its row has the pins
    return (body.get("pins") or {},)


def _exported_pins(lake: Lake) -> list[dict[str, int | None]]:
    reports = Catalog(lake).latest("publications").select("report").collect()["report"]
    return [json.loads(r).get("plan", {}).get("pins") or {} for r in reports if r]
