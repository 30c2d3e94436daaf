"""Two toy datasets in one lake, and specs that mix them."""

from catalog.lake import Lake
from pipelines.sources.base import SourceOptions
from schemas.mixture import MixtureSpec, SourceSpec
from tests.support.toys import ToySource, ingest_toy

SMALL = (12, 9, 15, 10)
LARGE = (7, 11, 8, 6, 10, 9)


def ingest_two_toys(lake: Lake) -> Lake:
    """Ingest `toy_a` (46 steps in 4 episodes) and `toy_b` (51 steps in 6 episodes)."""
    ingest_toy(lake, ToySource(options=SourceOptions("toy_a"), lengths=SMALL))
    ingest_toy(lake, ToySource(options=SourceOptions("toy_b"), lengths=LARGE, per_group=3))
    return lake


def toy_spec(name: str = "both", **changes) -> MixtureSpec:
    """Three quarters `toy_a`, one quarter `toy_b`."""
    body = {"samples": 1_000, "seed": 1, "sources": (SourceSpec("toy_a", weight=3), SourceSpec("toy_b", weight=1))}
    return MixtureSpec(name, **(body | changes))
