"""What flows tell automations: a dataset was ingested, an export was verified. Names and numbers, never data or credentials."""

import polars as pl
from prefect.events import emit_event

from catalog.tables import Catalog
from pipelines.report.gather import exports

INGESTED = "cotrain.dataset.ingested"
PUBLISHED = "cotrain.dataset.published"


def ingested(catalog: Catalog, dataset: str) -> None:
    """Tell automations that `dataset` has new episodes; the label `cotrain.actions` says whether they hold actions."""
    rows = catalog.latest("episodes").filter(pl.col("dataset") == dataset)
    found = (
        rows.select(pl.len().alias("episodes"), pl.col("steps").sum(), pl.col("has_action").any()).collect().row(0, named=True)
    )
    if not found["episodes"]:
        return
    resource = _resource(dataset) | {"cotrain.actions": str(bool(found["has_action"])).lower()}
    emit_event(INGESTED, resource, payload={"lake": catalog.lake.root, "episodes": found["episodes"], "steps": found["steps"]})


def published(catalog: Catalog, dataset: str) -> None:
    """Tell automations of every export of `dataset` that was read back without a difference; of no other."""
    for export in exports(catalog):
        if export.dataset == dataset and export.differences == 0:
            payload = {"format": export.format, "folder": export.folder, "episodes": export.episodes, "steps": export.rows}
            emit_event(PUBLISHED, _resource(dataset), payload=payload)


def _resource(dataset: str) -> dict[str, str]:
    return {"prefect.resource.id": f"cotrain.dataset.{dataset}", "prefect.resource.name": dataset}
