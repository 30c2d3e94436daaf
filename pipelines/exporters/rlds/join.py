"""Finished parts become one RLDS dataset: shards get their names, statistics are made, `dataset_info.json` comes last."""

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.exporters.base import ExportJob, ExportReport
from pipelines.exporters.parts import Part, dataset_size
from pipelines.exporters.rlds.card import card
from pipelines.exporters.rlds.layout import Layout, version_folder
from pipelines.exporters.rlds.part import SPOOL, measured, read_summary
from pipelines.exporters.rlds.shards import join_split, write_index
from pipelines.exporters.rlds.statistics import Spool, dataset_statistics
from pipelines.exporters.splits import TRAIN, VAL, split_names
from pipelines.formats import dataset_info, tfds_features
from pipelines.formats.dataset_info import DatasetInfo, tfds_name
from pipelines.sources.base import inside
from schemas.ids import canonical_json

STATISTICS = "dataset_statistics.json"
PROVENANCE, LAYOUT = "provenance.json", "layout"  # whose feature tree it is: `source` or `cotrain`


def join(job: ExportJob, layout: Layout, parts: Sequence[tuple[Part, Path]]) -> ExportReport:
    """Make one dataset of the finished `parts` in `job.folder`."""
    folder = version_folder(job.folder, job.options.version)
    folder.mkdir(parents=True)
    found = [(path, read_summary(path)) for _, path in parts]
    joined = [
        join_split(tfds_name(job.name), split, [(path, s.splits[split]) for path, s in found], folder)
        for split in split_names(e.split for e in job.episodes)
    ]
    rows = [row for _, more in joined for row in more]
    write_index(folder, rows)
    statistics = _statistics(job, layout, [path for _, path in parts], [r["n_steps"] for r in rows if r["split"] == TRAIN])
    (folder / STATISTICS).write_text(json.dumps(statistics, indent=1, allow_nan=False))
    info = DatasetInfo(
        tfds_name(job.name), job.options.version, tuple(split for split, _ in joined),
        f"{job.name}: {len(rows)} episodes of {job.contract.embodiment}, exported by cotrain.", job.contract.licence or "",
    )  # fmt: skip
    steps = sum(row["n_steps"] for row in rows)
    _describe(job, layout, folder, info, steps, statistics)
    notes = layout.notes + (() if info.split(VAL).records else ("all episodes share one split group: val is empty",))
    return ExportReport(
        len(job.episodes), steps, *dataset_size(job.folder), sum(s.copied for _, s in found), sum(s.transcoded for _, s in found),
        notes,
    )  # fmt: skip


def _statistics(job: ExportJob, layout: Layout, parts: Sequence[Path], train: Sequence[int]) -> dict[str, Any]:
    columns = measured(layout)
    with ExitStack() as stack:
        spools = {key: stack.enter_context(closing(Spool(*shape))) for key, shape in columns.items()}
        for number, spool in enumerate(spools.values()):
            for path in parts:
                spool.take(path / SPOOL.format(number))
        sources = {c.key: c.source for c in layout.columns if c.key in columns}
        return dataset_statistics(spools, job.contract, sources, len(train), sum(train))


def _describe(job: ExportJob, layout: Layout, folder: Path, info: DatasetInfo, steps: int, statistics: dict[str, Any]) -> None:
    """Write the files beside the shards, the one that makes the dataset whole last."""
    about = {
        LAYOUT: "source" if layout.origin else "cotrain",
        "provenance": dict(job.provenance),
        "options": asdict(job.options),
        "contract": json.loads(job.contract.to_json()),
    }
    (folder / PROVENANCE).write_bytes(canonical_json(about))
    (job.folder / "README.md").write_text(card(job, layout, info, steps, statistics))
    for name, text in (layout.origin.labels if layout.origin else {}).items():
        inside(folder, name).write_text(text)
    (folder / tfds_features.FILE).write_text(layout.declaration())
    (folder / dataset_info.FILE).write_text(info.to_json())
