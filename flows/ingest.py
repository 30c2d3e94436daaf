"""Ingests one source and tells automations of its new episodes; deployed to the queue `cpu`."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.events import ingested
from flows.run import RUNNER, Run
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions, dataset_name
from pipelines.sources.registry import open_source


@flow(name="ingest", task_runner=RUNNER, persist_result=False)
def ingest(
    source: str, dataset: str | None = None, kind: str = "auto", licence: str | None = None, lake: str | None = None,
    max_rejects: float = 0.2, budget_s: float | None = None, scheduler: str | None = None,
) -> State[Any]:  # fmt: skip
    """Ingest a source into shards, then say that it is there.

    Args:
        source: a folder, a file or a URL.
        dataset: its name in the lake; from the source if empty.
        kind: source format; `auto` recognises it.
        licence: licence to record.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        max_rejects: the run stops when more than this share of its episodes is rejected.
        budget_s: no unit is started after so many seconds.
        scheduler: a Dask scheduler to work on instead of this machine.
    """
    run = Run("ingest", lake, budget_s=budget_s, stop_rejects=max_rejects, scheduler=scheduler)
    options = SourceOptions(dataset or dataset_name(source), licence)
    if run.do(IngestStage(run.lake, open_source(source, options, kind))).worked:
        ingested(run.catalog, options.dataset)
    return run.end()
