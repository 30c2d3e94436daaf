"""The nightly flow: the demo's stages on a schedule. Everything it does is also a command; here it gets order, retries and artifacts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from catalog.lake import Lake
from flows.artifacts import lake_card
from flows.export import publish
from flows.quality import annotate_and_measure
from flows.report import page_address, write_page
from flows.run import RUNNER, Run
from flows.tasks import make_stand_in, record_episodes
from pipelines.annotate import AnnotateStage
from pipelines.demo.plan import FORMATS, DemoPlan, data_folder, make_plan
from pipelines.export import ExportStage
from pipelines.exporters.base import ExportOptions
from pipelines.ingest import IngestStage
from pipelines.mixture.mix import MixStage
from pipelines.sources.base import Source
from pipelines.sources.registry import open_source
from schemas.mixture import MixtureSpec

PAGE = "nightly"


@dataclass(frozen=True, slots=True)
class Job:
    """What a run works on. `exports` is a local folder; each format gets a folder below it."""

    lake: Lake
    sources: tuple[Source, ...]
    mixture: MixtureSpec
    exports: Path
    formats: tuple[str, ...] = FORMATS
    kinds: tuple[str, ...] = ("sim", "robot")  # what can be exported: human video has no actions
    annotator: str = "language_motion"


@flow(name="nightly", task_runner=RUNNER, persist_result=False)
def nightly(
    lake: str | None = None, work: str = "demo", data: str | None = None, simulator: str = "auto", budget_s: float | None = None
) -> State[Any]:
    """Record, ingest, annotate, mix, export, verify. A stage does only what is not done yet.

    Args:
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        work: folder for recordings and exports.
        data: folder of real recordings; `$COTRAIN_TEST_DATA` or the one beside the project if empty.
        simulator: `metaworld`, `pusht`, or `auto`.
        budget_s: no unit is started after so many seconds.
    """
    plan = make_plan(Path(work).resolve(), Path(data) if data else data_folder(), simulator)
    prepare(plan)
    sources = tuple(open_source(str(s.uri), s.options, s.kind) for s in plan.sources)
    return produce(Job(Lake.at(lake), sources, plan.mixture, plan.exports), budget_s)


def prepare(plan: DemoPlan) -> None:
    """Record what is not recorded yet, and write stand-ins for real data this machine does not have."""
    record_episodes(plan.recording, plan.recordings)
    for source in plan.sources:
        if source.made and not source.uri.exists():
            make_stand_in(source.kind, source.uri)


def produce(job: Job, budget_s: float | None = None) -> State[Any]:
    """Take sources to verified and published exports, stage by stage; to be called inside a flow."""
    run = Run("nightly", job.lake, len(job.sources) + 3 + 2 * len(job.formats), budget_s=budget_s)
    for source in job.sources:
        run.do(IngestStage(job.lake, source))
    annotate_and_measure(run, AnnotateStage.named(job.lake, job.annotator, "has_action = true"))
    if run.do(MixStage(job.lake, job.mixture)).is_complete:
        for name in job.formats:
            out = str(job.exports / name)
            stage = ExportStage(job.lake, f"mixture:{job.mixture.name}", name, out, job.kinds, ExportOptions())
            if run.do(stage, name).is_complete:
                publish(run, stage, out)
    show(run)
    return run.end()


def show(run: Run) -> None:
    """Write the report page where anything changed, and publish the lake's card."""
    if any(s.worked for s in run.summaries) or not run.lake.fs.exists(run.lake.report(f"{PAGE}.html")):
        write_page(run.lake, PAGE, f"cotrain nightly, run {runtime.flow_run.name}", tuple(run.summaries))
    lake_card(run.catalog, run.summaries, page_address(run.lake, PAGE))


if __name__ == "__main__":
    nightly()
