"""Keeps the catalog's tables in few files. Compaction rewrites nothing that a pinned version needs: old files stay until a vacuum."""

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from catalog.lake import Lake
from schemas.tables import TABLES


def compact(lake: Lake, *, above: int = 8) -> dict[str, tuple[int, int]]:
    """Merge small files of every table that has more than `above`.

    Appends may go on meanwhile. A compaction that loses a race against another compaction gives up: the next one will do.

    Returns:
        Per compacted table, its number of files before and after.
    """
    done: dict[str, tuple[int, int]] = {}
    for name in TABLES:
        try:
            table = DeltaTable(lake.table(name), storage_options=lake.storage_options or None)
        except TableNotFoundError:
            continue
        before = len(table.file_uris())
        if before <= above:
            continue
        try:
            table.optimize.compact()
        except CommitFailedError:
            continue
        done[name] = (before, len(table.file_uris()))
    return done
