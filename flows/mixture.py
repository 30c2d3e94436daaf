"""Pins a mixture as its spec file says; deployed to the queue `cpu`."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.run import RUNNER, Run
from pipelines.mixture.mix import MixStage
from schemas.mixture import load_spec


@flow(name="mixture", task_runner=RUNNER, persist_result=False)
def mixture(spec: str, lake: str | None = None) -> State[Any]:
    """Compile and pin a mixture; nothing happens while what it selects is unchanged.

    Args:
        spec: its TOML file.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
    """
    run = Run("mixture", lake)
    wanted = load_spec(Path(spec))
    run.do(MixStage(run.lake, wanted), wanted.name)
    return run.end()
