"""The demo's page: contact sheets with motion strips, the mixture table, exports and how they verified."""

from typing import TYPE_CHECKING

import polars as pl

from catalog.tables import Catalog
from pipelines.annotations import motion_rows
from pipelines.report.html import build_report, write_report
from pipelines.report.model import Command, ReportInput, Segment, StageTime, segments

if TYPE_CHECKING:
    from pipelines.demo.run import Demo

NAME = "demo"
SECOND = 1_000_000_000


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
    report = ReportInput("cotrain demo", motions=_motions(catalog), stages=stages, commands=commands)
    write_report(demo.lake, NAME, build_report(demo.lake, catalog, report))
    return uri, True


def _motions(catalog: Catalog) -> dict[str, tuple[Segment, ...]]:
    episodes = catalog.latest("episodes").collect()
    durations = dict(episodes.select("episode_id", pl.col("duration_s")).iter_rows())
    return {
        episode: segments([(r.start_ns / SECOND, r.text) for r in rows], durations[episode])
        for episode, rows in motion_rows(catalog, episodes).items()
    }
