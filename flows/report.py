"""Writes the lake's report page and links to it; deployed to the queue `cpu`."""

from typing import Any

from prefect import flow, runtime, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from catalog.lake import Lake
from catalog.tables import Catalog
from flows.artifacts import lake_card
from flows.summary import Summary
from flows.tasks import AGAIN
from pipelines.report.html import build_report, write_report
from pipelines.report.model import ReportInput, StageTime
from pipelines.report.motions import motion_segments


@flow(name="report", persist_result=False)
def report(lake: str | None = None, name: str = "lake") -> State[Any]:
    """Write `reports/<name>.html`, and show the lake's card with a link to it.

    Args:
        lake: root of the lake; `$COTRAIN_LAKE` or `./lake` if empty.
        name: of the page.
    """
    at = Lake.at(lake)
    page = write_page(at, name, f"cotrain {name}, run {runtime.flow_run.name}")
    lake_card(Catalog(at), (), page)
    return Completed(message=f"report written to {page}")


@task(name="page", **AGAIN)
def write_page(lake: Lake, name: str, title: str, summaries: tuple[Summary, ...] = ()) -> str:
    """Write a report page, with the times of a run's stages; return its address."""
    catalog = Catalog(lake)
    stages = tuple(StageTime(f"{s.stage} {s.dataset}", s.seconds, f"{s.worked} units, {s.rows:,} rows") for s in summaries)
    content = ReportInput(title, motions=motion_segments(catalog), stages=stages)
    write_report(lake, name, build_report(lake, catalog, content))
    return page_address(lake, name)


def page_address(lake: Lake, name: str) -> str:
    """Return where a report page is, as a link."""
    path = lake.report(f"{name}.html")
    return f"file://{path}" if lake.is_local else path
