"""Runs one annotator over a selection of episodes; deployed to the queue `gpu`."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from catalog.lake import Lake
from flows.artifacts import Progress
from flows.tasks import run_units
from pipelines.annotate import AnnotateStage


@flow(name="annotate", persist_result=False)
def annotate(
    annotator: str = "language_motion", what: str = "all", lake: str | None = None, settings: dict[str, Any] | None = None
) -> State[Any]:
    """Annotate every shard that holds a chosen episode and is not annotated yet.

    Args:
        annotator: its name.
        what: `all`, a dataset, a mixture, a condition or a SELECT.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        settings: the annotator's settings.
    """
    stage = AnnotateStage.named(Lake.at(lake), annotator, what, settings)
    summary = run_units(stage, Progress("annotate-progress", steps=1), annotator)
    if summary.failed:
        return Failed(message=f"{summary.failed} units failed; see quarantine, then run again")
    return Completed(message=summary.sentence)
