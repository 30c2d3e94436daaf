"""Runs one annotator over a selection of episodes; deployed to the queue `gpu`, and started by newly ingested datasets."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.quality import annotate_and_measure
from flows.run import RUNNER, Run
from pipelines.annotate import AnnotateStage


@flow(name="annotate", task_runner=RUNNER, persist_result=False)
def annotate(
    annotator: str = "language_motion", what: str = "all", lake: str | None = None, settings: dict[str, Any] | None = None,
    budget_s: float | None = None, scheduler: str | None = None,
) -> State[Any]:  # fmt: skip
    """Annotate every shard that holds a chosen episode and is not annotated yet, and measure how good that is.

    Args:
        annotator: its name.
        what: `all`, a dataset, a mixture, a condition or a SELECT.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        settings: the annotator's settings.
        budget_s: no unit is started after so many seconds.
        scheduler: a Dask scheduler to work on instead of this machine.
    """
    run = Run("annotate", lake, 2, budget_s=budget_s, scheduler=scheduler)
    annotate_and_measure(run, AnnotateStage.named(run.lake, annotator, what, settings))
    return run.end()
