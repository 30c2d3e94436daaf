"""Finished parts become one LeRobot v2.1 dataset: files linked, line tables put end to end, and the whole described."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.exporters.base import ExportJob, ExportReport
from pipelines.exporters.lerobot import meta
from pipelines.exporters.lerobot.join import carried, picture_stats_of, provenance, value_stats_of, video_notes
from pipelines.exporters.lerobot.plan import Plan
from pipelines.exporters.lerobot.summary import SUMMARY, pooled, read_summary
from pipelines.exporters.lerobot_v21.modality import MODALITY, modality_of
from pipelines.exporters.lerobot_v21.part import CHUNK, DATA_PATH, EPISODE_STATS, EPISODES, VIDEO_PATH
from pipelines.exporters.parts import Part, dataset_size, link_files
from schemas.shards import CodecHeader

VERSION, INFO = "v2.1", meta.INFO


def join(job: ExportJob, plan: Plan, parts: Sequence[tuple[Part, Path]], exporter: Mapping[str, str]) -> ExportReport:
    """Make `job.folder` a dataset of the finished `parts`; `info.json` last. `exporter` is its name and version."""
    root = job.folder
    for _, folder in parts:
        link_files(folder, root, but=[SUMMARY, EPISODES, EPISODE_STATS])
    (root / "meta").mkdir(parents=True, exist_ok=True)
    for name in (EPISODES, EPISODE_STATS):
        _concatenate([folder / name for _, folder in parts], root / "meta" / name)
    cameras = pooled([read_summary(folder) for _, folder in parts])
    _write_tasks(root, plan)
    meta.write_stats(root, dict(value_stats_of(job, plan)) | picture_stats_of(cameras))
    carried(job, plan).finish(root)
    if not (root / MODALITY).exists():
        (root / MODALITY).write_text(json.dumps(modality_of(plan), indent=4) + "\n")
    if plan.keeps_clock:
        meta.write_clock(root, [s.column("t_ns").combine_chunks().to_numpy() for s in meta.episode_steps(job)])
    transcoded = {k: c.transcoded for k, c in cameras.items() if c.transcoded}
    notes = (*plan.notes, *video_notes(cameras))
    info = _info(job, plan, {k: c.header for k, c in cameras.items() if c.header is not None})
    meta.write_provenance(root, provenance(job, plan, transcoded, notes, exporter) | {"format": f"lerobot {VERSION}"})
    meta.write_card(root, job, info, notes)
    meta.write_info(root, info)
    return ExportReport(
        len(job.episodes), sum(plan.lengths), *dataset_size(root),
        copied=sum(c.copied for c in cameras.values()),
        transcoded=sum(plan.lengths[e] for episodes in transcoded.values() for e in episodes), notes=notes,
    )  # fmt: skip


def _info(job: ExportJob, plan: Plan, videos: Mapping[str, CodecHeader]) -> dict[str, Any]:
    episodes = len(plan.lengths)
    kept = {k: v for k, v in meta.make_info(job, plan, videos).items() if not k.endswith("_files_size_in_mb") and k != "tools"}
    return kept | {
        "codebase_version": VERSION, "total_videos": episodes * len(videos), "total_chunks": -(-episodes // CHUNK),
        "chunks_size": CHUNK, "data_path": DATA_PATH, "video_path": VIDEO_PATH if videos else None,
    }  # fmt: skip


def _write_tasks(root: Path, plan: Plan) -> None:
    lines = (json.dumps({"task_index": n, "task": text}, ensure_ascii=False) + "\n" for text, n in plan.tasks.items())
    (root / "meta/tasks.jsonl").write_text("".join(lines))


def _concatenate(sources: Sequence[Path], target: Path) -> None:
    with target.open("wb") as out:
        for source in sources:
            with source.open("rb") as lines:
                shutil.copyfileobj(lines, out)
