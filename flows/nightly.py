"""The nightly flow: the demo's stages on a schedule. Everything it does is also a command; here it gets order, retries and artifacts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from catalog.lake import Lake
from catalog.tables import Catalog
from flows.artifacts import Progress, ingest_summary, lake_card, published
from flows.summary import Summary
from flows.tasks import make_stand_in, record_episodes, run_units
from pipelines.annotate import AnnotateStage
from pipelines.demo.plan import FORMATS, DemoPlan, data_folder, make_plan
from pipelines.export import ExportStage
from pipelines.exporters.base import ExportOptions
from pipelines.ingest import IngestStage
from pipelines.mixture.mix import MixStage
from pipelines.report.html import build_report, write_report
from pipelines.report.model import ReportInput, StageTime
from pipelines.report.motions import motion_segments
from pipelines.sources.base import Source
from pipelines.sources.registry import open_source
from pipelines.verify import VerifyStage
from schemas.mixture import MixtureSpec

TASKS_AT_ONCE = 2  # threads; decoding and storage release the interpreter
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


RUNNER: Any = ThreadPoolTaskRunner(max_workers=TASKS_AT_ONCE)


@flow(name="nightly", task_runner=RUNNER, persist_result=False)
def nightly(lake: str | None = None, work: str = "demo", data: str | None = None, simulator: str = "auto") -> State[Any]:
    """Record, ingest, annotate, mix, export, verify. A stage does only what is not done yet.

    Args:
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        work: folder for recordings and exports.
        data: folder of real recordings; `$COTRAIN_TEST_DATA` or the one beside the project if empty.
        simulator: `metaworld`, `pusht`, or `auto`.
    """
    plan = make_plan(Path(work).resolve(), Path(data) if data else data_folder(), simulator)
    prepare(plan)
    sources = tuple(open_source(str(s.uri), s.options, s.kind) for s in plan.sources)
    return produce(Job(Lake.at(lake), sources, plan.mixture, plan.exports))


def prepare(plan: DemoPlan) -> None:
    """Record what is not recorded yet, and write stand-ins for real data this machine does not have."""
    record_episodes(plan.recording, plan.recordings)
    for source in plan.sources:
        if source.made and not source.uri.exists():
            make_stand_in(source.kind, source.uri)


def produce(job: Job) -> State[Any]:
    """Take sources to verified exports, stage by stage; to be called inside a flow."""
    progress = Progress("nightly-progress", steps=len(job.sources) + 2 + 2 * len(job.formats))
    ingested = [run_units(IngestStage(job.lake, source), progress) for source in job.sources]
    ingest_summary(ingested)
    annotated = run_units(AnnotateStage.named(job.lake, job.annotator, "has_action = true"), progress, job.annotator)
    mixed = run_units(MixStage(job.lake, job.mixture), progress)
    exported = [run_units(_export(job, name), progress, name) for name in job.formats]
    verified = [run_units(VerifyStage(job.lake, str(job.exports / name)), progress, name) for name in job.formats]
    return _finish(job, [*ingested, annotated, mixed, *exported, *verified], verified)


def _export(job: Job, name: str) -> ExportStage:
    return ExportStage(job.lake, f"mixture:{job.mixture.name}", name, str(job.exports / name), job.kinds, ExportOptions())


def _finish(job: Job, summaries: list[Summary], verified: list[Summary]) -> State[Any]:
    catalog, worked = Catalog(job.lake), sum(s.worked for s in summaries)
    page = job.lake.report(f"{PAGE}.html")
    if worked or not job.lake.fs.exists(page):
        stages = tuple(StageTime(f"{s.stage} {s.dataset}", s.seconds, f"{s.worked} units, {s.rows:,} rows") for s in summaries)
        title = f"cotrain nightly, run {runtime.flow_run.name}"
        report = ReportInput(title, motions=motion_segments(catalog), stages=stages)
        write_report(job.lake, PAGE, build_report(job.lake, catalog, report))
    lake_card(catalog, summaries, f"file://{page}" if job.lake.is_local else page)
    for dataset in dict.fromkeys(d for s in verified for d in s.datasets):
        published(catalog, dataset)
    failed, rejects = sum(s.failed for s in summaries), sum(len(s.rejects) for s in summaries)
    if failed:
        return Failed(message=f"{failed} units failed for reasons the code did not foresee; see quarantine, then run again")
    text = f"{worked} units done" if worked else "nothing to do: everything was already there"
    return Completed(message=f"{text}, {rejects} rejects in quarantine")


if __name__ == "__main__":
    nightly()
