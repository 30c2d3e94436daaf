"""Compares an RLDS export with the lake: every value as TFDS reads it, every n-th picture byte for byte and pixel by pixel.

What the lake's columns say is read here from Arrow itself, not through the exporter's own conversions.
"""

import math
from collections import Counter
from collections.abc import Buffer, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from pipelines.exporters.base import ExportEpisode, ExportJob, VerifyReport
from pipelines.exporters.findings import Findings
from pipelines.exporters.rlds.check import check_export
from pipelines.exporters.rlds.layout import CameraPlan, Column, Layout, build_layout, version_folder
from pipelines.exporters.rlds.pictures import blank_picture, encode_picture, is_copied, runs
from pipelines.exporters.rlds.records import active_texts, metadata
from pipelines.exporters.rlds.survey import Survey, survey
from pipelines.exporters.rlds.tfds_process import TfdsEpisode, read_with_tfds
from pipelines.exporters.rlds.verify_source import differences, episode_ids
from pipelines.formats.tfds_features import Tensor, read_features
from pipelines.sources.rlds.origin import Origin

DECODER_PSNR = 45.0  # dB: TensorFlow's JPEG decoder against libjpeg-turbo's fast DCT on the same bytes; measured: equal
type Array = npt.NDArray[Any]
type Frames = npt.NDArray[np.int64]


@dataclass(slots=True)
class RldsFindings(Findings):
    """Beside the differences, the least peak signal-to-noise ratios: in dB, infinite for equal pictures."""

    lake_psnr: dict[str, float] = field(default_factory=dict[str, float])
    decoder_psnr: float = math.inf
    episodes: Counter[str] = field(default_factory=Counter[str])


def verify(folder: Path, job: ExportJob, every: int) -> VerifyReport:
    """Compare the export in `folder` (the one `RldsExporter.export` filled) with the lake; see `Exporter.verify`."""
    version = version_folder(folder, job.options.version)
    found = RldsFindings()
    for problem in check_export(version):
        found.say(problem)
    about: dict[str, Any] = {}
    if not found.found:
        about = _compare(version, job, max(every, 1), found)
    detail = {
        "tensorflow": about.get("tensorflow"), "tensorflow_datasets": about.get("tensorflow_datasets"), "splits": about.get("splits"),
        "min_psnr_db": {camera: _rounded(value) for camera, value in found.lake_psnr.items()},
        "min_decoder_psnr_db": _rounded(found.decoder_psnr), "decoder_psnr_bound_db": DECODER_PSNR,
    }  # fmt: skip
    reader = f"tfds {about['tensorflow_datasets']}" if about else "cotrain"
    return VerifyReport("rlds", reader, found.episodes.total(), found.steps, found.frames, found.all(), (), detail)


def _compare(folder: Path, job: ExportJob, every: int, found: RldsFindings) -> dict[str, Any]:
    seen = survey(job)
    layout = build_layout(job, seen)
    if read_features(folder) != layout.root:
        found.say(f"{folder}/features.json declares other features than the lake's contract gives")
    known = {episode.episode_id: episode for episode in job.episodes}
    comparison = _Comparison(job, layout, seen, every, found)
    if layout.origin is not None:
        about = _compare_source(folder, comparison, layout.origin, known)
        _count_episodes(known, found)
        return about
    with read_with_tfds(folder, every) as stream:
        for got in stream.episodes:
            name = got.texts["episode_metadata/episode_id"][0]
            found.episodes[name] += 1
            if name in known:
                comparison.episode(known[name], got)
    _count_episodes(known, found)
    return stream.about


def _count_episodes(known: Mapping[str, ExportEpisode], found: RldsFindings) -> None:
    for name, times in (Counter(dict.fromkeys(known, 1)) - found.episodes).items():
        found.say(f"{name} is in the lake's selection and {times} times missing from the export")
    for name, times in (found.episodes - Counter(dict.fromkeys(known, 1))).items():
        found.say(f"{name} is in the export {times} times too often")


def _compare_source(
    folder: Path, comparison: "_Comparison", origin: Origin, known: Mapping[str, ExportEpisode]
) -> dict[str, Any]:
    """Compare an export in its source's own tree; episodes are told apart by their order."""
    found = comparison.found
    with read_with_tfds(folder, comparison.every) as stream:
        names = {split: iter(ids) for split, ids in episode_ids(folder, list(stream.about["splits"])).items()}
        for got in stream.episodes:
            name = next(names[got.split], "an episode without a name")
            found.episodes[name] += 1
            if name not in known:
                continue
            found.steps += int(known[name].row["steps"])
            for key, difference, pictures in differences(
                comparison.job, comparison.layout, origin, known[name], got, comparison.every
            ):
                found.frames += pictures
                if difference:
                    found.say(f"{name}, {key}: {difference}")
    return stream.about


@dataclass(frozen=True, slots=True)
class _Comparison:
    job: ExportJob
    layout: Layout
    seen: Survey
    every: int
    found: RldsFindings

    def episode(self, episode: ExportEpisode, got: TfdsEpisode) -> None:
        """Compare one episode."""
        shard = episode.open(self.job.lake)
        steps = shard.episode_steps(episode.episode_id)
        if got.split != self.seen.splits[episode.episode_id]:
            self.found.say(
                f"{episode.episode_id} is in split {got.split}, its group belongs to {self.seen.splits[episode.episode_id]}"
            )
        for key, expected in _expected(self.job, self.layout, episode, steps):
            given = got.texts.get(key) if isinstance(expected, list) else got.arrays.get(key)
            if difference := _difference(expected, given):
                self.found.say(f"{episode.episode_id}, {key}: {difference}")
        self.found.steps += steps.num_rows
        for plan in self.layout.cameras:
            frames = steps.column(f"frame.{plan.camera}").to_numpy()[:: self.every]
            self._pictures(episode, plan, frames, got)

    def _pictures(self, episode: ExportEpisode, plan: CameraPlan, frames: npt.NDArray[np.int32], got: TfdsEpisode) -> None:
        steps: dict[int, list[int]] = {}
        for place, frame in enumerate(frames.tolist()):
            steps.setdefault(frame, []).append(place * self.every)
        for frame, data, picture in self._lake_pictures(episode, plan, np.array(sorted(steps), np.int64)):
            for step in steps[frame]:
                self.found.frames += 1
                where = f"{episode.episode_id}, {plan.key} at step {step}"
                encoded, decoded = got.encoded.get((plan.key, step)), got.decoded.get((plan.key, step))
                if encoded is None or decoded is None:
                    self.found.say(f"{where}: TFDS gives no picture")
                elif encoded != data:
                    self.found.say(f"{where}: its {len(encoded)} bytes are not what frame {frame} of the lake gives")
                else:
                    self._pixels(plan, encoded, decoded, picture, where)

    def _lake_pictures(
        self, episode: ExportEpisode, plan: CameraPlan, frames: Frames
    ) -> Iterator[tuple[int, Buffer, Array | None]]:
        """Yield frame, expected bytes and pixels, a bounded number decoded at a time; -1 is the black picture."""
        if len(frames) and frames[0] < 0:
            yield -1, blank_picture(plan, self.job.options.jpeg_quality), None
        if len(seen := frames[frames >= 0]) == 0:
            return
        shard = episode.open(self.job.lake)
        track = shard.track(episode.episode_id, plan.camera)
        copied, masks = is_copied(track.info.header, plan.image.format), plan.image.format == "png"
        for run in runs(track, seen):
            read = shard.read_masks if masks else shard.read
            for frame, picture in zip(run.tolist(), read(episode.episode_id, plan.camera, run), strict=True):
                data = (
                    track.packet(int(track.row_of[frame])) if copied else encode_picture(picture, self.job.options.jpeg_quality)
                )
                yield frame, data, picture

    def _pixels(self, plan: CameraPlan, encoded: bytes, decoded: Array, picture: Array | None, where: str) -> None:
        found = self.found
        if plan.image.format == "png":
            upright = picture[..., 2::-1] if picture is not None and picture.ndim == 3 else picture  # OpenCV gives BGR
            if upright is not None and not np.array_equal(decoded.squeeze(-1) if upright.ndim == 2 else decoded, upright):
                found.say(f"{where}: TensorFlow decodes other pixels than ours")
            return
        ours = simplejpeg.decode_jpeg(encoded, "RGB", fastdct=True, fastupsample=False)  # TensorFlow's own defaults
        close = psnr(decoded, ours)
        found.decoder_psnr = min(found.decoder_psnr, close)
        if close < DECODER_PSNR:
            found.say(f"{where}: TensorFlow's pixels differ from ours by {close:.1f} dB, {DECODER_PSNR} dB is the bound")
        if picture is not None:
            found.lake_psnr[plan.camera] = min(found.lake_psnr.get(plan.camera, math.inf), psnr(decoded, picture))


def psnr(one: Array, other: Array) -> float:
    """Return the peak signal-to-noise ratio of two uint8 pictures in dB, infinite if equal, zero if their shapes differ."""
    if one.shape != other.shape:
        return 0.0
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _expected(job: ExportJob, layout: Layout, episode: ExportEpisode, steps: Any) -> Iterator[tuple[str, Array | list[str]]]:
    for column in layout.columns:
        yield column.key, _column(steps, column)
    for name, empty, dtype in (("reward", 0.0, np.float32), ("discount", 1.0, np.float32)):
        yield f"steps/{name}", np.array([empty if v is None else v for v in steps.column(name).to_pylist()], dtype)
    for name in ("is_first", "is_last", "is_terminal"):
        yield f"steps/{name}", np.array(steps.column(name).to_pylist(), bool)
    times: Sequence[int] = steps.column("t_ns").to_pylist()
    yield "steps/timestamp_ns", np.array(times, np.int64)
    yield "steps/language_instruction", [text or "" for text in steps.column("language").to_pylist()]
    rows = job.language.get(episode.episode_id, ())
    for texts in layout.texts:
        yield texts.key, active_texts([r for r in rows if (r.style, r.camera) == (texts.style, texts.camera)], times)
    for plan in layout.cameras:
        if plan.flag:
            yield plan.flag, np.array(steps.column(f"frame.{plan.camera}").to_pylist()) >= 0
    for name, value in metadata(job, episode).items():
        text = not isinstance(value, np.ndarray)
        yield f"episode_metadata/{name}", [bytes(v).decode() for v in value] if text else value[0]


def _column(steps: Any, column: Column) -> Array | list[str]:
    values: list[Any] = steps.column(column.source).to_pylist()
    if not isinstance(column.leaf, Tensor):
        return [text or "" for text in values]
    return np.array(values, np.dtype(column.leaf.dtype)).reshape(len(values), *column.leaf.shape)


def _difference(expected: Array | list[str], given: Any) -> str:
    if given is None:
        return "" if np.ndim(expected) and np.size(expected) == 0 else "TFDS gives nothing"
    if len(np.shape(expected)) and len(expected) != len(given):
        return f"{len(given)} steps, the lake has {len(expected)}"
    if isinstance(expected, list):
        wrong = [i for i, (a, b) in enumerate(zip(expected, given, strict=True)) if a != b]
    else:
        if expected.dtype != given.dtype or expected.shape != given.shape:
            return f"{given.dtype}{list(given.shape)}, the lake has {expected.dtype}{list(expected.shape)}"
        same = (expected == given) | ((expected != expected) & (given != given))  # noqa: PLR0124  NaN equals NaN here
        wrong = np.flatnonzero(~np.atleast_1d(same).reshape(max(len(np.atleast_1d(same)), 1), -1).all(1)).tolist()
    if not wrong:
        return ""
    first = wrong[0]
    pair = (expected, given) if np.ndim(expected) == 0 else (expected[first], given[first])
    return f"{len(wrong)} steps differ, first step {first}: {pair[1]} instead of {pair[0]}"


def _rounded(value: float) -> float | None:
    """Return dB for a report; None means that every picture was equal, or that there was none."""
    return round(value, 2) if math.isfinite(value) else None
