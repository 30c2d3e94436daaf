"""Scores, compares, splits and decides; deployed to the queue `cpu`. Nothing is deleted: a mixture asks for what is kept."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State

from flows.run import RUNNER, Run
from pipelines.curate.decide import DecideStage, decide
from pipelines.curate.duplicates import DuplicateStage
from pipelines.curate.pooled import PooledScoreStage
from pipelines.curate.scores import ScoreStage, check_methods
from pipelines.curate.sketches import SketchStage
from pipelines.curate.splits import SplitStage
from schemas.curation import CurationSpec, load_curation
from schemas.split import load_split


@flow(name="curate", task_runner=RUNNER, persist_result=False)
def curate(
    what: str = "all", spec: str | None = None, split: str | None = None, methods: tuple[str, ...] = (), lake: str | None = None,
    budget_s: float | None = None, scheduler: str | None = None,
) -> State[Any]:  # fmt: skip
    """Score every episode, find near-duplicates, then split and decide as the specs say.

    Args:
        what: `all`, a dataset, a mixture, a condition or a SELECT.
        spec: TOML file of gates, duplicates and coverage; without it nothing is decided.
        split: TOML file of a split; without it nothing is split.
        methods: scores to compute; all of them if empty.
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        budget_s: no unit is started after so many seconds.
        scheduler: a Dask scheduler to work on instead of this machine.
    """
    run = Run("curate", lake, 6, budget_s=budget_s, scheduler=scheduler)
    wanted = check_methods(methods)
    for stage in (ScoreStage(run.lake, what, wanted), PooledScoreStage(run.lake, what, wanted)):
        run.do(stage, what)
    for stage in (SketchStage(run.lake, what), DuplicateStage(run.lake, what)):
        run.do(stage, what)
    if split:
        run.do(SplitStage(run.lake, load_split(Path(split))))
    if spec:
        decided = load_curation(Path(spec))
        run.do(DecideStage(run.lake, decided), decided.name)
        show_verdicts(run, decided)
    return run.end()


def show_verdicts(run: Run, spec: CurationSpec) -> None:
    """Publish the table `curate-verdicts`: episodes rejected per gate, and how many are kept."""
    rows = decide(run.lake, spec).rows
    rejected = rows.filter(~rows["keep"]).group_by("gate").len().sort("len", descending=True)
    table = [{"gate": gate, "rejected": count} for gate, count in rejected.iter_rows()]
    kept = rows.height - int(rejected["len"].sum())
    create_table_artifact(table, key="curate-verdicts", description=f"{kept} of {rows.height} episodes kept by {spec.name}")
