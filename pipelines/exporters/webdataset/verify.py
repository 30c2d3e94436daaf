"""Compares a WebDataset export with the lake: every step's numbers and texts, every n-th picture byte for byte.

What the lake's columns say is read here from Arrow itself, not through the exporter's own conversions.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from pipelines.exporters.base import ExportJob, VerifyReport
from pipelines.exporters.findings import Findings
from pipelines.exporters.rlds.pictures import PictureEncoder, picture_pool
from pipelines.exporters.webdataset.join import INFO
from pipelines.exporters.webdataset.plan import Column, Plan, member_name
from pipelines.exporters.webdataset.read import (
    Array,
    Sample,
    equal,
    has_webdataset,
    read_with_tarfile,
    read_with_webdataset,
    same,
)
from pipelines.exporters.webdataset.samples import SampleBuilder, sample_key
from pipelines.sources.base import inside
from schemas.errors import VerificationError

PLAIN = ("t_ns", "is_first", "is_last", "is_terminal")


@dataclass(slots=True)
class _Findings(Findings):
    seen: Counter[int] = field(default_factory=Counter[int])  # steps of each episode, by its index in the job


def verify(folder: Path, job: ExportJob, plan: Plan, every: int) -> VerifyReport:
    """Compare the export in `folder` with the episodes `job` names."""
    found, both = _Findings(), has_webdataset()
    info = _read_info(folder)
    if info["features"] != plan.describe():
        found.say(f"{INFO} declares other members than the lake's contract gives")
    sound = _check_shards(folder, info["shards"], found)
    with picture_pool() as pool:
        lake = _Lake(job, plan, max(every, 1), pool)
        for split in dict.fromkeys(s["split"] for s in info["shards"]) if sound else ():
            shards = [folder / s["file"] for s in info["shards"] if s["split"] == split]
            try:
                for sample in _samples(shards, both, found):
                    _compare(lake, split, sample, found)
            except VerificationError as error:
                found.say(str(error))
    for index, episode in enumerate(job.episodes):
        steps = episode.open(job.lake).episode_steps(episode.episode_id).num_rows  # on the export's grid, where it has one
        if found.seen[index] != steps:
            found.say(f"{episode.episode_id} has {found.seen[index]} samples, the lake has {steps} steps")
    reader = "tarfile" + (f", webdataset {_version()}" if both else "")
    notes = () if both else ("the package webdataset is not installed; only tarfile read the shards",)
    detail = {"shards": len(info["shards"]), "splits": info["splits"]}
    episodes = sum(1 for n in found.seen.values() if n)
    return VerifyReport("webdataset", reader, episodes, found.steps, found.frames, found.all(), notes, detail)


def _version() -> str:
    from importlib.metadata import version

    return version("webdataset")


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads((folder / INFO).read_text())
    except (OSError, ValueError) as error:
        raise VerificationError(f"{folder}/{INFO} cannot be read: {error}; export the dataset again") from error
    if missing := sorted({"features", "shards", "splits"} - set(info)):
        raise VerificationError(f"{folder}/{INFO} has no {', '.join(missing)}; export the dataset again")
    return info


def _check_shards(folder: Path, shards: Sequence[Mapping[str, Any]], found: _Findings) -> bool:
    """Tell whether every listed shard is there with the hash it was written with; name those that nobody listed."""
    before = found.found
    for shard in shards:
        path = inside(folder, shard["file"])
        if not path.is_file():
            found.say(f"{path.name} does not exist")
            continue
        if blake3().update_mmap(path).hexdigest() != shard["blake3"]:
            found.say(f"{path.name} is damaged: its bytes are not the ones {INFO} lists")
    sound = found.found == before
    for name in sorted({p.name for p in folder.glob("*.tar")} - {s["file"] for s in shards}):
        found.say(f"{name} is not listed in {INFO}")
    return sound


def _samples(shards: Sequence[Path], both: bool, found: _Findings) -> Iterator[Sample]:
    """Yield the samples as `tarfile` reads them, each checked against what `webdataset` makes of it."""
    if not both:
        yield from read_with_tarfile(shards)
        return
    for ours, theirs in zip_longest(read_with_tarfile(shards), read_with_webdataset(shards)):
        if ours is None or theirs is None or not same(ours, theirs):
            keys = [sample.key if sample else "nothing" for sample in (ours, theirs)]
            found.say(f"tarfile and webdataset read different things: {keys[0]} and {keys[1]}")
        if ours is not None:
            yield ours


@dataclass(slots=True)
class _Lake:
    """What the lake says of one episode at a time."""

    job: ExportJob
    plan: Plan
    every: int
    pool: ThreadPoolExecutor
    index: int = -1
    steps: Any = None
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    texts: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    pictures: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])

    def go_to(self, index: int) -> None:
        """Load episode `index`, unless it is the one already here."""
        if index == self.index:
            return
        episode = self.job.episodes[index]
        steps = episode.open(self.job.lake).episode_steps(episode.episode_id)
        self.index, self.steps = index, steps
        self.arrays = {member_name(c.member): _column(steps, c) for c in self.plan.columns}
        self.texts = {name: steps.column(name).to_pylist() for name in ("language", "reward", "discount", *PLAIN)}
        self.texts |= {f.name: steps.column(f.name).to_pylist() for f in self.plan.values}
        builder = SampleBuilder(self.job, self.plan, PictureEncoder(self.job.options.jpeg_quality, self.pool))
        sampled = steps.take(pa.array(range(0, steps.num_rows, self.every)))
        self.pictures = {
            member_name(member): [bytes(data) for data in seen.data]
            for member, seen in builder.pictures(episode, sampled).items()
        }

    def said(self, step: int) -> dict[str, Any]:
        """Return what a sample's `json` should hold."""
        episode, plan, texts = self.job.episodes[self.index], self.plan, self.texts
        active: dict[str, str] = {}
        for row in self.job.language.get(episode.episode_id, ()):
            if row.start_ns <= texts["t_ns"][step]:
                active[f"{row.style}.{row.camera}" if row.camera else row.style] = row.text
        numbers = {name: texts[name][step] for name in ("reward", "discount")}
        return {
            "dataset": episode.dataset, "episode_id": episode.episode_id, "episode_index": self.index, "split": episode.split,
            "licence": episode.row.get("licence") or self.job.contract.licence, "step": step,
            "language": texts["language"][step] or "", "texts": {key: text for key, text in active.items() if text},
            **{name: value if value is not None and np.isfinite(value) else None for name, value in numbers.items()},
            **{name: texts[name][step] for name in PLAIN},
            "values": {f.name: texts[f.name][step] or "" for f in plan.values},
            "missing": [c.camera for c in plan.cameras if self.steps.column(f"frame.{c.camera}")[step].as_py() < 0],
        }  # fmt: skip


def _compare(lake: _Lake, split: str, sample: Sample, found: _Findings) -> None:
    index, step = sample.about.get("episode_index"), sample.about.get("step")
    if not isinstance(index, int) or not isinstance(step, int) or not 0 <= index < len(lake.job.episodes):
        found.say(f"sample {sample.key} names no step of the selection")
        return
    lake.go_to(index)
    where = f"{lake.job.episodes[index].episode_id} step {step}"
    if step != found.seen[index] or step >= lake.steps.num_rows or sample.key != sample_key(index, step):
        found.say(f"sample {sample.key} is {where}, out of place")
        return
    found.seen[index] += 1
    found.steps += 1
    if lake.job.episodes[index].split != split:
        found.say(f"{where} is in split {split}, its episode belongs to {lake.job.episodes[index].split}")
    expected = lake.said(step)
    if wrong := sorted(k for k in {*expected, *sample.about} if expected.get(k) != sample.about.get(k)):
        found.say(f"{where}: json differs in {', '.join(wrong)}")
    for member in sorted({*lake.arrays, *sample.arrays}):
        ours, theirs = lake.arrays.get(member), sample.arrays.get(member)
        if ours is None or theirs is None or not equal(ours[step], theirs):
            found.say(f"{where}: {member} is {theirs}, the lake has {None if ours is None else ours[step]}")
    if sample.pictures.keys() != lake.pictures.keys():
        found.say(f"{where}: pictures {sorted(sample.pictures)}, expected {sorted(lake.pictures)}")
    elif step % lake.every == 0:
        for member, data in sample.pictures.items():
            found.frames += 1
            if data != lake.pictures[member][step // lake.every]:
                found.say(f"{where}: {member} has other bytes than the lake gives")
            elif problem := _opens(data, member):
                found.say(f"{where}: {member} {problem}")


def _opens(data: bytes, member: str) -> str:
    """Decode a picture with a decoder that the export did not use; return what is wrong with it."""
    from PIL import Image, UnidentifiedImageError

    wanted = {"jpg": "JPEG", "png": "PNG"}[member.rsplit(".", 1)[-1]]
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return "" if picture.format == wanted else f"is a {picture.format} picture"
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        return f"does not decode: {error}"


def _column(steps: pa.Table, column: Column) -> Array:
    feature, rows = column.feature, steps.column(column.feature.name).to_pylist()
    gap = np.full(feature.shape, np.nan).tolist() if np.dtype(feature.dtype).kind == "f" else None
    return np.array([gap if row is None else row for row in rows], np.dtype(feature.dtype)).reshape(len(rows), *feature.shape)
