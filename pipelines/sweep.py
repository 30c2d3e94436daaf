"""Removes what killed runs leave in a lake: temporary files, receipts of committed units, progress of runs nobody heard of for long.

Only names no reader ever looks at are touched. A receipt of a unit that is not committed stays: the next run commits from it.
"""

import time
from dataclasses import dataclass

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.observe.live import FOLDER, live_runs
from pipelines.publish import TEMPORARY
from pipelines.unit import MARKER

FOLDERS = (
    "shards", "annotations", "residuals", "attempts", "memories", "mixtures", "tokenizers", "weights", "reports", "receipts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What was removed."""

    files: int = 0
    bytes: int = 0
    receipts: int = 0


def sweep(lake: Lake, *, older_than_s: float = 24 * 3600) -> SweepReport:
    """Remove temporary files older than `older_than_s`, and receipts of committed units of any age.

    Args:
        lake: local or remote; remote lakes have no temporary files of ours.
        older_than_s: a younger file may belong to a unit that is being worked on.
    """
    files = size = receipts = 0
    oldest, catalog = time.time() - older_than_s, Catalog(lake)
    committed = catalog.committed_units(MARKER)
    for folder in FOLDERS:
        for path, info in lake.files(folder).items():
            name = path.rsplit("/", 1)[-1]
            if TEMPORARY in name and lake.is_local and info["mtime"] < oldest:
                lake.fs.rm_file(path)
                files, size = files + 1, size + info["size"]
            elif folder == "receipts" and _is_committed(catalog, name.removesuffix(".json"), committed):
                lake.fs.rm_file(path)
                receipts += 1
    for run in live_runs(lake):
        if run.updated < oldest:
            lake.fs.rm_file(lake.path(FOLDER, f"{run.run}.json"))
            files += 1
    return SweepReport(files, size, receipts)


def _is_committed(catalog: Catalog, mark: str, units: set[str]) -> bool:
    """Tell whether a receipt's unit is committed; a unit that is done once more has a mark with its number."""
    return catalog.committed(MARKER, mark) if "+" in mark else mark in units
