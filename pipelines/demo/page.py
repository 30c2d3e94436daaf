"""The demo's page: contact sheets with motion strips, the mixture table, exports and how they verified."""

from typing import TYPE_CHECKING

from catalog.tables import Catalog
from pipelines.report.html import build_report, write_report
from pipelines.report.model import Command, ReportInput, StageTime
from pipelines.report.motions import motion_segments

if TYPE_CHECKING:
    from pipelines.demo.run import Demo

NAME = "demo"


def write_page(demo: "Demo") -> tuple[str, bool]:
    """Write the page if anything changed since the last one; return where it is and whether it was written."""
    uri = demo.lake.report(f"{NAME}.html")
    if not demo.report.worked and demo.lake.fs.exists(uri):
        return uri, False
    catalog = Catalog(demo.lake)
    stages = tuple(StageTime(s["step"], s["seconds"], "") for s in demo.report.steps)
    commands = (
        Command('cotrain query "SELECT source, count(*), sum(duration_s) FROM episodes GROUP BY source"', "any question, in SQL"),
        Command(
            'cotrain query "SELECT text, count(*) AS n FROM language_motion GROUP BY text ORDER BY n DESC"', "what the robots do"
        ),
        Command(f"cotrain verify {demo.plan.exports}", "compare the exports with the lake again"),
    )
    report = ReportInput("cotrain demo", motions=motion_segments(catalog), stages=stages, commands=commands)
    write_report(demo.lake, NAME, build_report(demo.lake, catalog, report))
    return uri, True

