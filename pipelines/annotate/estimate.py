"""What annotating would take: pictures to decode, columns read, and the time that the same annotator took per unit of work before."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from annotators.base import grain_of
from annotators.clips import needs_of
from catalog.tables import Catalog
from pipelines.annotate.pictures import shown
from pipelines.annotate.stage import AnnotateStage, device_for
from pipelines.shards.reader import open_shard
from pipelines.unit import Unit

LOOK_AT = 200  # shards opened to count pictures; beyond that their mean stands for the rest


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the open units of an annotate stage would take.

    Attributes:
        grain: what one row is about.
        reads: what the annotator reads of the first dataset that offers anything.
        steps: steps to annotate.
        pictures: pictures to decode; 0 where it looks at none.
        device: where it would run.
        seconds: of one worker, from earlier runs of the same annotator here; None where there are none.
    """

    grain: str
    reads: tuple[str, ...]
    steps: int
    pictures: int
    device: str
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The same in words."""
        time = (
            "no earlier run to estimate the time from" if self.seconds is None else f"about {self.seconds:,.0f} s of one worker"
        )
        pictures = f", {self.pictures:,} pictures" if self.pictures else ""
        reads = ", ".join(self.reads) or "nothing these datasets offer"
        return f"reads {reads}; {self.steps:,} steps{pictures} on {self.device}, rows per {self.grain}; {time}"


def estimate(stage: AnnotateStage, todo: Sequence[Unit]) -> Estimate:
    """Say what `todo` would take. Opens the head of at most `LOOK_AT` shards; decodes nothing."""
    steps, pictures, reads = 0, 0, tuple[str, ...]()
    looked = todo[:LOOK_AT]
    for unit in looked:
        shard = open_shard(stage.lake, unit.dataset, unit.payload[0])
        reads = reads or stage.annotator.requires(shard.contract)
        steps += shard.steps.num_rows
        looks = needs_of(stage.annotator, shard.contract).looks
        pictures += sum(len(shown(shard, e, look).frames) for e in shard.episode_ids for look in looks)
    scale = len(todo) / len(looked) if looked else 1.0
    steps, pictures = round(steps * scale), round(pictures * scale)
    rate = _seconds_per_frame(stage)
    seconds = None if rate is None else rate * (pictures or steps)
    return Estimate(grain_of(stage.annotator), reads, steps, pictures, device_for(stage.annotator, stage.device), seconds)


def _seconds_per_frame(stage: AnnotateStage) -> float | None:
    """Return the median time per picture (or step) of this annotator's committed units, whatever its configuration."""
    catalog = Catalog(stage.lake)
    mine = catalog.scan("annotations").filter(pl.col("annotator") == stage.annotator.name).select("unit").unique()
    runs = catalog.scan("runs").filter((pl.col("stage") == stage.name) & (pl.col("frames") > 0))
    found = runs.join(mine, on="unit", how="semi").select((pl.col("seconds") / pl.col("frames")).median()).collect().item()
    return None if found is None else float(found)
