"""Keeps the catalog's tables in few files, and removes files that no version anybody needs refers to.

Compaction rewrites nothing that a pinned version needs: old files stay until a vacuum, and the vacuum is told every pin. Delta's own
clean-up of old log entries is turned off: after 30 days it would end time travel to pinned versions without asking.
"""

from collections.abc import Collection, Iterator, Mapping

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from catalog.append import KEEP_LOG
from catalog.lake import Lake
from catalog.tables import Catalog
from schemas.errors import LakeError
from schemas.tables import TABLES

RETENTION_H = 30 * 24.0


def compact(lake: Lake, *, above: int = 8) -> dict[str, tuple[int, int]]:
    """Merge small files of every table that has more than `above`.

    Appends may go on meanwhile. A compaction that loses a race against another compaction gives up: the next one will do.

    Returns:
        Per compacted table, its number of files before and after.
    """
    done: dict[str, tuple[int, int]] = {}
    for name, table in _tables(lake):
        before = len(table.file_uris())
        try:
            if not KEEP_LOG.items() <= table.metadata().configuration.items():  # made by an older version
                table.alter.set_table_properties(KEEP_LOG)
            if before <= above:
                continue
            table.optimize.compact()
        except CommitFailedError:
            continue
        done[name] = (before, len(table.file_uris()))
    return done


def vacuum(
    lake: Lake, pins: Mapping[str, Collection[int]], *, older_than_h: float = RETENTION_H, dry_run: bool = False
) -> dict[str, int]:
    """Remove data files of superseded versions, and of commits that lost a race, except what a pinned version needs.

    Args:
        lake: whose catalog.
        pins: per table the versions that must stay readable; `pipelines.upkeep.pins.pinned_versions` collects them.
        older_than_h: files that stopped being current more recently stay: readers may be on that version, writers about to commit.
        dry_run: count only.

    Returns:
        Per table, the number of files (to be) removed; tables without any are left out.

    Raises:
        LakeError: a pinned version cannot be read any more, so what it needs is unknown; nothing was removed from that table.
    """
    found: dict[str, int] = {}
    for name, table in _tables(lake):
        keep = sorted(v for v in pins.get(name, ()) if v <= table.version())
        try:
            files = table.vacuum(
                int(older_than_h), dry_run=dry_run, enforce_retention_duration=False, full=True, keep_versions=keep or None
            )
        except DeltaError as error:
            raise LakeError(
                f"{name}: a version that a mixture pins ({keep}) cannot be read: {error}. Restore the table's _delta_log, or drop the mixture"
            ) from error
        if files:
            found[name] = len(files)
    return found


def _tables(lake: Lake) -> Iterator[tuple[str, DeltaTable]]:
    for name in TABLES:
        table = Catalog(lake).open(name)
        if table is not None:
            yield name, table
