"""Annotating in a flow always measures too: the stage, then its evaluation, then a table of what was found."""

from typing import Any

from prefect.artifacts import create_table_artifact

from flows.run import Run
from pipelines.annotate import AnnotateStage, EvaluateStage
from pipelines.annotate.quality import stored_reports


def annotate_and_measure(run: Run, stage: AnnotateStage) -> None:
    """Run an annotate stage and its evaluation as two steps of a flow, and publish `<flow>-quality`."""
    name = stage.annotator.name
    run.do(stage, name)
    measured = EvaluateStage(run.lake, stage.annotator, stage.what, device=stage.device)
    run.do(measured, name)
    quality_table(f"{run.flow}-quality", stage, [u.dataset for u in measured.plan()])


def quality_table(key: str, stage: AnnotateStage, datasets: list[str]) -> None:
    """Publish a table of the reports of an annotator: value, interval, baselines, gate."""
    rows: list[dict[str, Any]] = [
        {
            "annotator": stage.annotator.name, "dataset": dataset, "metric": r.metric, "value": r.value,
            "95% interval": None if r.ci95 is None else f"{r.ci95[0]:.4g} to {r.ci95[1]:.4g}", "episodes": r.n_episodes, "split": r.split,
            "baselines": ", ".join(f"{n} {v:.3g}" for n, v in r.baselines.items()), "gate": r.gate, "goal": r.goal, "truth": r.gt_source,
        }
        for dataset, reports in stored_reports(stage.lake, stage.annotator, datasets).items()
        for r in reports
    ]  # fmt: skip
    create_table_artifact(rows, key=key, description="Quality of annotations; the catalog's table quality holds every report")
