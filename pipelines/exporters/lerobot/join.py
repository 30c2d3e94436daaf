"""Finished parts become one LeRobot dataset: their files are linked, and what describes the whole is written."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.exporters.base import ExportJob, ExportReport
from pipelines.exporters.lerobot import meta
from pipelines.exporters.lerobot.carry import Carry
from pipelines.exporters.lerobot.plan import Plan, origins, task_texts
from pipelines.exporters.lerobot.stats import Stats, picture_stats, value_stats
from pipelines.exporters.lerobot.summary import SUMMARY, CameraSummary, pooled, read_summary
from pipelines.exporters.lerobot.table import INDEX_TYPES, column_view, index_columns
from pipelines.exporters.parts import Part, dataset_size, link_files


def join(job: ExportJob, plan: Plan, parts: Sequence[tuple[Part, Path]], exporter: Mapping[str, str]) -> ExportReport:
    """Make `job.folder` a dataset of the finished `parts`; `info.json` last. `exporter` is its name and version."""
    root = job.folder
    for _, folder in parts:
        link_files(folder, root, but=[SUMMARY])
    (root / "meta").mkdir(parents=True, exist_ok=True)
    cameras = pooled([read_summary(folder) for _, folder in parts])
    meta.write_tasks(root, plan.tasks)
    carried(job, plan).finish(root)
    meta.write_stats(root, dict(value_stats_of(job, plan)) | picture_stats_of(cameras))
    if plan.keeps_clock:
        meta.write_clock(root, [s.column("t_ns").combine_chunks().to_numpy() for s in meta.episode_steps(job)])
    transcoded = {k: c.transcoded for k, c in cameras.items() if c.transcoded}
    notes = (*plan.notes, *video_notes(cameras))
    info = meta.make_info(job, plan, {k: c.header for k, c in cameras.items() if c.header is not None})
    meta.write_provenance(root, provenance(job, plan, transcoded, notes, exporter))
    meta.write_card(root, job, info, notes)
    meta.write_info(root, info)
    files, size = dataset_size(root)
    return ExportReport(
        len(job.episodes),
        sum(plan.lengths),
        files,
        size,
        copied=sum(c.copied for c in cameras.values()),
        transcoded=sum(plan.lengths[e] for episodes in transcoded.values() for e in episodes),
        notes=notes,
    )


def carried(job: ExportJob, plan: Plan) -> Carry:
    """Gather what LeRobot keeps beside its tables, from every episode that came from there."""
    carry, first = Carry(origins(job)), 0
    for index, (episode, count) in enumerate(zip(job.episodes, plan.lengths, strict=True)):
        if carry.has(index):
            shard = episode.open(job.lake)
            times = shard.episode_steps(episode.episode_id).column("t_ns").combine_chunks().to_numpy()
            carry.add(index, first, times, shard.episode_streams(episode.episode_id))
        first += count
    return carry


def picture_stats_of(cameras: Mapping[str, CameraSummary]) -> dict[str, Stats]:
    """Return the statistics of each camera's sampled pictures."""
    return {k: picture_stats(c.counts, c.pictures) for k, c in cameras.items() if c.counts is not None}


def value_stats_of(job: ExportJob, plan: Plan) -> Iterator[tuple[str, Stats]]:
    """Yield the statistics of every numeric column, each over every row of the dataset; one column is in memory at a time."""
    views: dict[str, list[npt.NDArray[Any]]] = {}
    for steps in meta.episode_steps(job):  # views of mapped shards: they cost no memory until they are read
        for column in plan.columns:
            if (view := column_view(steps, column)) is not None:
                views.setdefault(column.key, []).append(view)
    for key, parts in views.items():
        yield key, value_stats({key: parts})[key]
    for key in INDEX_TYPES:
        yield key, value_stats({key: [values[key] for values in _index_values(job, plan)]})[key]


def _index_values(job: ExportJob, plan: Plan) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Rebuild the index columns episode by episode; keeping all five would cost more memory than everything else."""
    first = 0
    for index, steps in enumerate(meta.episode_steps(job)):
        texts = task_texts(steps)
        numbers = np.array([plan.tasks[n] for n in texts.dictionary.to_pylist()], np.int64)[texts.indices.to_numpy()]
        yield index_columns(steps.num_rows, index, first, plan.fps, numbers)
        first += steps.num_rows


def video_notes(cameras: Mapping[str, CameraSummary]) -> list[str]:
    """Say what was encoded again, and which cameras change size."""
    again = [
        f"{k}: {len(c.transcoded)} episodes were encoded again, one frame per step" for k, c in cameras.items() if c.transcoded
    ]
    return again + [f"{k}: pictures come in sizes {c.sizes}" for k, c in cameras.items() if len(c.sizes) > 1]


def provenance(
    job: ExportJob, plan: Plan, transcoded: Mapping[str, list[int]], notes: tuple[str, ...], exporter: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of `meta/cotrain.json`."""
    return {
        "format": f"lerobot {meta.VERSION}",
        "exporter": dict(exporter),
        "dataset": job.name,
        "dataset_version": job.options.version,
        "fps": plan.fps,
        "contract": job.contract.to_json(),
        "renamed": plan.renamed,
        "transcoded": transcoded,
        "notes": notes,
        "provenance": dict(job.provenance),
    }
