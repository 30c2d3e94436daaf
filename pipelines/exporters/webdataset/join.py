"""Finished parts become one WebDataset: shards linked under their final names, a card, and `dataset.json` last."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipelines.exporters.base import ExportJob, ExportReport
from pipelines.exporters.parts import Part, dataset_size, place_file
from pipelines.exporters.splits import split_names, split_order
from pipelines.exporters.webdataset.card import card
from pipelines.exporters.webdataset.part import read_summaries
from pipelines.exporters.webdataset.plan import Plan
from pipelines.exporters.webdataset.shards import TarShard

INFO, CARD = "dataset.json", "README.md"


def join(job: ExportJob, plan: Plan, parts: Sequence[tuple[Part, Path]], exporter: Mapping[str, str]) -> ExportReport:
    """Make `job.folder` a dataset of the finished `parts`; `exporter` is its name and version."""
    root, found = job.folder, read_summaries([folder for _, folder in parts])
    numbers, shards = Counter[str](), list[TarShard]()
    for (_, folder), summary in zip(parts, found, strict=True):
        for shard in summary.shards:
            name = f"{job.name}-{shard.split}-{numbers[shard.split]:06d}.tar"
            numbers[shard.split] += 1
            place_file(folder / shard.file, root / name)
            shards.append(replace(shard, file=name))
    shards.sort(key=lambda s: (split_order(s.split), s.file))
    steps = [count for summary in found for count in summary.steps]
    info = _info(job, plan, shards, steps, exporter)
    (root / CARD).write_text(card(job, plan, info))
    (root / INFO).write_text(json.dumps(info, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    return ExportReport(
        len(job.episodes), sum(steps), *dataset_size(root), sum(s.copied for s in found), sum(s.transcoded for s in found),
        plan.notes,
    )  # fmt: skip


def _info(
    job: ExportJob, plan: Plan, shards: Sequence[TarShard], steps: Sequence[int], exporter: Mapping[str, str]
) -> dict[str, Any]:
    episodes = [
        {"index": n, "episode_id": e.episode_id, "split": e.split, "steps": count}
        for n, (e, count) in enumerate(zip(job.episodes, steps, strict=True))
    ]
    return {
        "format": "webdataset", "exporter": dict(exporter), "name": job.name, "version": job.options.version,
        "licence": job.contract.licence, "embodiment": job.contract.embodiment, "control_hz": job.contract.control_hz,
        "splits": _splits(shards, episodes), "features": plan.describe(), "shards": [s.to_dict() for s in shards],
        "episodes": episodes, "notes": list(plan.notes), "options": asdict(job.options),
        "contract": json.loads(job.contract.to_json()), "provenance": dict(job.provenance),
    }  # fmt: skip


def _splits(shards: Sequence[TarShard], episodes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    return {
        name: {
            "episodes": sum(e["split"] == name for e in episodes),
            "samples": sum(s.samples for s in shards if s.split == name),
            "shards": sum(s.split == name for s in shards),
            "bytes": sum(s.bytes for s in shards if s.split == name),
        }
        for name in split_names(str(e["split"]) for e in episodes)
    }
