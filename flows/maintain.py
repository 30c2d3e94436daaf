"""Housekeeping: sweeps what killed runs left, compacts the catalog, drops what no pin needs. One run at a time, in the queue `maintain`."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from catalog.lake import Lake
from catalog.maintain import RETENTION_H
from flows.tasks import AGAIN
from pipelines.upkeep.maintain import maintain as keep_up


@flow(name="maintain", persist_result=False)
def maintain(lake: str | None = None, older_than_h: float = 24, keep_versions_h: float = RETENTION_H) -> State[Any]:
    """Sweep, compact and vacuum one lake.

    Args:
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        older_than_h: leave temporary files younger than this alone: a unit may be writing them.
        keep_versions_h: how long catalog versions that nothing pins stay readable.
    """
    counts, tables = keep(Lake.at(lake), older_than_h, keep_versions_h)
    create_table_artifact(tables, key="maintain-tables", description="Files of the catalog's tables before and after")
    text = f"{counts['leftovers']} leftovers ({counts['bytes']} bytes) removed"
    return Completed(message=f"{text}, {counts['compacted']} tables compacted, {counts['vacuumed']} old files removed")


@task(name="upkeep", **AGAIN)
def keep(lake: Lake, older_than_h: float, keep_versions_h: float) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Do all of it; return counts, and a row per table that changed."""
    done = keep_up(lake, older_than_s=older_than_h * 3600, keep_versions_h=keep_versions_h)
    tables: list[dict[str, Any]] = [
        {"table": name, "files": before, "compacted to": after, "old files removed": removed}
        for name, before, after, removed in done.tables
    ]
    swept, vacuumed = done.swept, sum(done.vacuumed.values())
    counts = {
        "leftovers": swept.files + swept.receipts,
        "bytes": swept.bytes,
        "compacted": len(done.compacted),
        "vacuumed": vacuumed,
    }
    return counts, tables
