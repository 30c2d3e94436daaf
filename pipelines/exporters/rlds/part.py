"""One part of an RLDS export: its TFRecord shards per split, and its share of the numbers that statistics are made of."""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.exporters.base import ExportJob
from pipelines.exporters.parts import MB, Part
from pipelines.exporters.rlds.layout import Layout, is_action
from pipelines.exporters.rlds.pictures import PictureEncoder, picture_pool
from pipelines.exporters.rlds.records import Record, RecordBuilder
from pipelines.exporters.rlds.shards import SplitPart, SplitWriter
from pipelines.exporters.rlds.statistics import Spool
from pipelines.exporters.splits import TRAIN, split_names
from pipelines.formats import tfds_features
from pipelines.formats.dataset_info import tfds_name

SUMMARY, SPOOL = "part.json", "numbers-{:03d}.bin"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished part holds. `copied` and `transcoded` count its pictures by how their bytes got there."""

    splits: dict[str, SplitPart]
    copied: int
    transcoded: int


def write_part(job: ExportJob, layout: Layout, part: Part, folder: Path, on_episode: Callable[[], None]) -> None:
    """Write the episodes of `part` into `folder`; see `pipelines.exporters.parts`."""
    run = _Run(job, layout, folder)
    with ExitStack() as stack:
        pool = stack.enter_context(picture_pool())
        for file in (*run.writers.values(), *run.spools.values()):
            stack.enter_context(closing(file))
        builder = RecordBuilder(job, layout, PictureEncoder(job.options.jpeg_quality, pool))
        for episode in job.episodes[part.first : part.stop]:
            run.add(episode.episode_id, episode.split, builder.build(episode))
            on_episode()
        splits = {name: asdict(writer.finish()) for name, writer in run.writers.items()}
    (folder / SUMMARY).write_text(json.dumps({"splits": splits, "copied": run.copied, "transcoded": run.transcoded}))


def read_summary(folder: Path) -> Summary:
    """Return what a finished part holds."""
    raw: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    splits = {name: SplitPart(tuple(s["lengths"]), s["bytes"], tuple(s["rows"])) for name, s in raw["splits"].items()}
    return Summary(splits, raw["copied"], raw["transcoded"])


def measured(layout: Layout) -> dict[str, tuple[int, np.dtype[Any]]]:
    """Return width and dtype of every column that statistics are made of, by record key."""
    return {
        c.key: (c.leaf.size, np.dtype(c.leaf.dtype))
        for c in layout.columns
        if c.statistics and isinstance(c.leaf, tfds_features.Tensor)
    }


@dataclass(slots=True)
class _Run:
    """The open files of one part."""

    job: ExportJob
    layout: Layout
    folder: Path
    copied: int = 0
    transcoded: int = 0
    writers: dict[str, SplitWriter] = field(init=False)
    spools: dict[str, Spool] = field(init=False)

    def __post_init__(self) -> None:
        name, limit = tfds_name(self.job.name), int(self.job.options.rlds_mb * MB)
        self.writers = {
            split: SplitWriter(self.folder, name, split, limit) for split in split_names(e.split for e in self.job.episodes)
        }
        columns = enumerate(measured(self.layout).items())
        self.spools = {key: Spool.at(self.folder / SPOOL.format(n), *shape) for n, (key, shape) in columns}

    def add(self, episode_id: str, split: str, record: Record) -> None:
        self.writers[split].add(episode_id, record.steps, record.values)
        self.copied += record.copied
        self.transcoded += record.transcoded
        if split == TRAIN:
            self._measure(record)

    def _measure(self, record: Record) -> None:
        contract = self.job.contract
        padded = set[str]() if contract.last_action_valid else {f.name for f in contract.features if is_action(f)}
        for column in self.layout.columns:
            if column.key in self.spools and column.key in record.numbers:
                values = record.numbers[column.key]
                self.spools[column.key].append(values[:-1] if column.source in padded else values)
