"""Exports, reads back, and publishes what reads back without a difference; deployed to the queue `cpu`."""

from typing import Any

from prefect import flow, task
from prefect.client.schemas.objects import State

from flows.events import published
from flows.run import RUNNER, Run
from flows.tasks import AGAIN
from pipelines.export import ExportStage, push_all
from pipelines.exporters.base import ExportOptions
from pipelines.verify import VerifyStage


@flow(name="export", task_runner=RUNNER, persist_result=False)
def export(
    what: str, out: str, formats: tuple[str, ...] = ("lerobot",), lake: str | None = None, kinds: tuple[str, ...] = (),
    accepted: tuple[str, ...] = (), push: str | None = None, budget_s: float | None = None,
) -> State[Any]:  # fmt: skip
    """Export a selection in each format, verify it with the format's own reader, and only then publish it.

    Args:
        what: a mixture, a dataset, a condition or a SELECT.
        out: folder or URL; each format gets a folder below it.
        formats: names in the exporters' registry.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        kinds: only sources of these kinds: `human`, `robot`, `sim`.
        accepted: restricted licences, or datasets under one, that the export may contain.
        push: a hub repository, `organisation/name`, for the verified exports.
        budget_s: no unit is started after so many seconds.
    """
    run = Run("export", lake, 2 * len(formats), budget_s=budget_s)
    for name in formats:
        stage = ExportStage(run.lake, what, name, f"{out}/{name}", kinds, ExportOptions(), accepted)
        if run.do(stage, name).is_complete:
            publish(run, stage, f"{out}/{name}", push)
    return run.end()


def publish(run: Run, stage: ExportStage, out: str, push: str | None = None) -> None:
    """Verify finished exports; say so of those that hold what the lake holds, and push them where that was asked.

    Raises:
        VerificationError: an export differs from the lake; it is neither announced nor pushed.
    """
    verified = run.do(VerifyStage(run.lake, out), stage.format)
    if not verified.is_complete:
        return
    if push:
        push_exports.with_options(task_run_name=f"push {stage.format}")(stage, push)
    for dataset in verified.datasets:
        published(run.catalog, dataset)


@task(name="push", **AGAIN)
def push_exports(stage: ExportStage, repository: str) -> list[str]:
    """Push an export's datasets to a hub; return their addresses."""
    return push_all(stage.lake, [unit.payload[0] for unit in stage.plan()], repository)
