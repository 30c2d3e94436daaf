"""Language motions as segments for the strips: valid spans only, so that a gap in the annotations is a gap in the strip."""

import polars as pl

from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.report.model import Segment

ANNOTATOR = "language_motion"
SECOND = 1_000_000_000


def motion_segments(catalog: Catalog, episodes: pl.DataFrame | None = None) -> dict[str, tuple[Segment, ...]]:
    """Return, per episode id, what the newest motion annotations say; touching spans of equal text are one.

    Args:
        catalog: where the annotations are listed.
        episodes: rows of the `episodes` table; None takes all.
    """
    chosen = catalog.latest("episodes").collect() if episodes is None else episodes
    table = read_annotations(catalog, ANNOTATOR, chosen)
    if "text" not in table.columns:
        return {}
    found: dict[str, list[Segment]] = {}
    spans = table.filter("valid").sort("episode_id", "start_ns").select("episode_id", "start_ns", "end_ns", "text")
    for episode, start, end, text in spans.iter_rows():
        kept = found.setdefault(episode, [])
        begin = start / SECOND
        if kept and kept[-1].text == text and kept[-1].end_s >= begin:
            begin = kept.pop().start_s
        kept.append(Segment(begin, end / SECOND, text))
    return {episode: tuple(kept) for episode, kept in found.items()}
