"""Caches what a privileged teacher knows beyond its student, over a mixture; deployed to the queue `gpu`."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.run import RUNNER, Run
from pipelines.residuals.planning import plan_stages


@flow(name="residuals", task_runner=RUNNER, persist_result=False)
def residuals(
    mixture: str, teachers: tuple[str, ...], student: str = "", config: dict[str, Any] | None = None, device: str = "cpu",
    lake: str | None = None, budget_s: float | None = None, scheduler: str | None = None,
) -> State[Any]:  # fmt: skip
    """Compute the residuals that are missing, one stage per teacher.

    Args:
        mixture: `NAME` or `NAME@HASH`.
        teachers: `KIND:PATH` of a checkpoint, or `SOURCE=KIND:PATH` once per source of the mixture.
        student: likewise, where it is another model than the teacher.
        config: fields of the cache's configuration, such as `mode`, `draws` and `seed`.
        device: where models run: `cpu`, `cuda`, `cuda:1`.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        budget_s: no unit is started after so many seconds.
        scheduler: a Dask scheduler to work on instead of this machine.
    """
    run = Run("residuals", lake, len(teachers), budget_s=budget_s, scheduler=scheduler)
    for stage in plan_stages(run.lake, mixture, teachers, student, config, device=device):
        run.do(stage, stage.teacher.spec.teacher_id)
    return run.end()
