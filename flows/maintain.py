"""Housekeeping: sweeps what killed runs left, compacts the catalog. Deployed to the queue `maintain`, one run at a time."""

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from catalog.lake import Lake
from catalog.maintain import compact
from pipelines.sweep import sweep


@flow(name="maintain", persist_result=False)
def maintain(lake: str | None = None, older_than_h: float = 24) -> State[Any]:
    """Sweep and compact one lake.

    Args:
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        older_than_h: leave temporary files younger than this alone: a unit may be writing them.
    """
    at = Lake.at(lake)
    swept, compacted = sweep_lake(at, older_than_h), compact_catalog(at)
    return Completed(message=f"{swept['files']} leftovers ({swept['bytes']} bytes) removed, {len(compacted)} tables compacted")


@task(name="sweep", cache_policy=NO_CACHE, persist_result=False)
def sweep_lake(lake: Lake, older_than_h: float) -> dict[str, int]:
    """Remove leftovers; return counts."""
    report = sweep(lake, older_than_s=older_than_h * 3600)
    return {"files": report.files + report.receipts, "bytes": report.bytes}


@task(name="compact", cache_policy=NO_CACHE, persist_result=False)
def compact_catalog(lake: Lake) -> dict[str, list[int]]:
    """Compact every table; return its file counts before and after."""
    return {name: list(counts) for name, counts in compact(lake).items()}
