"""The demo's page: contact sheets with motion strips, the mixture table, exports and how they verified."""

from pathlib import Path
from typing import Any

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.report.html import build_report, write_report
from pipelines.report.model import Command, ReportInput, StageTime
from pipelines.report.motions import motion_segments

NAME = "demo"


def write_page(lake: Lake, steps: list[dict[str, Any]], exports: Path) -> str:
    """Write the page about a finished run's `steps` and return where it is."""
    catalog = Catalog(lake)
    stages = tuple(StageTime(s["step"], s["seconds"], "") for s in steps)
    commands = (
        Command('cotrain query "SELECT source, count(*), sum(duration_s) FROM episodes GROUP BY source"', "any question, in SQL"),
        Command(
            'cotrain query "SELECT text, count(*) AS n FROM language_motion GROUP BY text ORDER BY n DESC"', "what the robots do"
        ),
        Command(f"cotrain verify {exports}", "compare the exports with the lake again"),
    )
    report = ReportInput("cotrain demo", motions=motion_segments(catalog), stages=stages, commands=commands)
    write_report(lake, NAME, build_report(lake, catalog, report))
    return lake.report(f"{NAME}.html")
