"""Collects garbage: files that the catalog once named and nothing rests on any more, and shards of units that never finished.

Nothing that `needed_files` or an open receipt names is removed, nor anything young, nor a file whose name the catalog never wrote down
and that is not a shard: what is not understood stays. Rows are never removed; they say what there was.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from catalog.lake import Lake
from pipelines.publish import TEMPORARY
from pipelines.unit.receipt import promised_files
from pipelines.upkeep.needed import needed_files, registered_files
from pipelines.upkeep.pins import live_mixtures
from schemas.errors import UsageError

type Kind = Literal["replaced", "orphan", "mixture"]

_SHARD = re.compile(r"^shards/[^/]+/u-[0-9a-f]{20}\.(steps|packets|streams)\.arrow$")
YOUNG_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Garbage:
    """One file, relative to the lake's root.

    `kind` is `replaced` (its rows are not the newest and no mixture pins them), `orphan` (its unit was never committed) or `mixture`
    (of a mixture beyond the number to keep).
    """

    path: str
    bytes: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was, or would be, removed."""

    garbage: tuple[Garbage, ...]
    kept_young: int

    @property
    def bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(g.bytes for g in self.garbage)


def collect_garbage(
    lake: Lake, *, dry_run: bool = True, keep_mixtures: int | None = None, older_than_s: float = YOUNG_S
) -> GcReport:
    """Find, and unless `dry_run` remove, files that nothing needs.

    Args:
        lake: which.
        dry_run: only tell.
        keep_mixtures: how many versions of each mixture to keep; older ones that were not exported go, and release what they pinned.
        older_than_s: a younger file stays: the unit that wrote it may be about to commit.

    Raises:
        UsageError: `keep_mixtures` is below 1.
        LakeError: a live mixture's index cannot be read, so what it needs is unknown; nothing was removed.
    """
    if keep_mixtures is not None and keep_mixtures < 1:
        raise UsageError(f"--keep-mixtures {keep_mixtures} would leave mixtures without a version; keep at least 1")
    promised = promised_files(lake)  # first: a unit that commits meanwhile is then found in the catalog
    needed = promised | {f.path for f in needed_files(lake, keep_mixtures=keep_mixtures)}
    limit, garbage, young = time.time() - older_than_s, list[Garbage](), 0
    for item, info in _candidates(lake, needed, keep_mixtures):
        if _written_at(info) > limit:
            young += 1
            continue
        garbage.append(item)
    # Manifests last: a mixture whose removal was cut short is alive, and says what is missing.
    for item in sorted(garbage, key=lambda g: (g.path.endswith("manifest.json"), g.path)):
        if not dry_run:
            lake.fs.rm_file(lake.path(item.path))
    return GcReport(tuple(garbage), young)


def _candidates(lake: Lake, needed: set[str], keep_mixtures: int | None) -> Iterator[tuple[Garbage, dict[str, Any]]]:
    known = {f.path for f in registered_files(lake)}
    for folder in ("shards", "annotations"):
        for path, info in _files(lake, folder):
            if path in needed or TEMPORARY in path:  # temporary files are the sweep's
                continue
            if path in known:
                yield Garbage(path, info["size"], "replaced"), info
            elif _SHARD.match(path):
                yield Garbage(path, info["size"], "orphan"), info
    if keep_mixtures is None:
        return
    kept = {m.uri for m in live_mixtures(lake, keep=keep_mixtures)}
    for mixture in live_mixtures(lake):
        if mixture.uri not in kept:
            for path, info in _files(lake, mixture.uri):
                yield Garbage(path, info["size"], "mixture"), info


def _files(lake: Lake, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = lake.files(folder)
    for path in sorted(found):
        yield folder + path[path.rindex(f"/{folder}/") + len(folder) + 1 :], found[path]


def _written_at(info: dict[str, Any]) -> float:
    """Return a file's time of writing, from whatever its store calls it; a file that has none counts as young."""
    names = ("mtime", "LastModified", "last_modified", "updated", "created")
    value = next((info[name] for name in names if info.get(name) is not None), None)
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, (int, float)) else time.time()
