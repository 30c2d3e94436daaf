"""What becomes what: contract features and cameras to LeRobot keys, shapes and types. Reads step tables, writes nothing."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipelines.exporters.base import ExportEpisode, ExportJob
from pipelines.exporters.lerobot.carry import carried_streams, is_annotation, kept_tasks
from pipelines.shards.mux import can_remux
from pipelines.sources.lerobot.cameras import IMAGES
from pipelines.sources.lerobot.info import INDEX_COLUMNS, LANGUAGE_COLUMNS, RENAMED
from pipelines.sources.lerobot.media import sound_name
from schemas.contract import Camera, Feature
from schemas.errors import ContractError, UsageError
from schemas.shards import CodecHeader

MAX_DIMENSIONS = 5  # LeRobot's Array2D..Array5D
RESERVED = {*INDEX_COLUMNS, *LANGUAGE_COLUMNS, "task"}
REWARD = "next.reward"
GRID_NS = 100_000  # LeRobot's tolerance: a clock this near to the grid is the grid
SECOND = 1_000_000_000
LOSSLESS = {"png", "tiff"}


@dataclass(frozen=True, slots=True)
class Column:
    """One feature of the shards' steps, and what it is called and shaped like in LeRobot."""

    feature: Feature
    key: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """LeRobot's name of the scalar type."""
        return "string" if self.feature.dtype == "string" else np.dtype(self.feature.dtype).name

    @property
    def kind(self) -> pa.DataType:
        """The parquet type: a scalar, a fixed-size list, or nested lists from two dimensions on."""
        if self.dtype == "string":
            return pa.string()
        scalar = pa.from_numpy_dtype(np.dtype(self.dtype))
        if self.shape == (1,):
            return scalar
        if len(self.shape) == 1:
            return pa.list_(pa.field("element", scalar), self.shape[0])
        kind = scalar
        for _ in self.shape:
            kind = pa.list_(pa.field("element", kind))
        return kind


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera: its LeRobot key, and whether its pictures go into mp4 files or, as they are, into the table."""

    camera: Camera
    key: str
    storage: Literal["video", "image"]
    header: CodecHeader  # of the first episode that has this camera: what a blank picture must look like
    depth: dict[str, Any] | None = None  # LeRobot's quantisation parameters, where pixels are distances
    sound: CodecHeader | None = None  # of the first episode whose video has sound
    sound_info: dict[str, Any] | None = None  # what LeRobot said of it


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about an export that is decided before its first byte is written.

    `lengths`: steps of each episode, in export order. `tasks`: every instruction and its number, the source's own
    where it has one, else in order of first appearance.
    """

    fps: int
    columns: tuple[Column, ...]
    cameras: tuple[CameraPlan, ...]
    languages: tuple[str, ...]
    tools: list[Any] | None
    keeps_clock: bool
    renamed: dict[str, str]
    notes: tuple[str, ...]
    lengths: tuple[int, ...]
    tasks: dict[str, int]

    def first_row(self, episode: int) -> int:
        """Return the row of an episode's first step in the whole dataset."""
        return sum(self.lengths[:episode])


def make_plan(job: ExportJob) -> Plan:
    """Decide names, shapes, storage and frame rate for `job`.

    Raises:
        UsageError: there is nothing to export, or no whole frame rate is known.
    """
    if not job.episodes:
        raise UsageError(f"{job.name}: no episodes were chosen, so there is nothing to export")
    notes: list[str] = []
    fps = _fps(job, notes)
    origin = origins(job)
    native = all(o is not None for o in origin)
    columns, renamed = _columns(job, notes)
    cameras = tuple(_cameras(job, [o or {} for o in origin], native, notes))
    lengths, tasks, keeps_clock = _survey(job, fps, kept_tasks(origin))
    if keeps_clock:
        notes.append(f"the recording's clock is not the {fps} Hz grid; the original times are in meta/cotrain_clock.parquet")
    carried = set(LANGUAGE_COLUMNS) | carried_streams(origin)
    left_out = sorted(s for s in {s.name for s in job.contract.streams} - carried if not is_annotation(s))
    if left_out:
        notes.append(f"streams without a place in LeRobot were left out: {', '.join(left_out)}")
    tools = next((o["tools"] for o in origin if o and "tools" in o), None)
    return Plan(fps, columns, cameras, _languages(job), tools, keeps_clock, renamed, tuple(notes), lengths, tasks)


def grid_times(count: int, fps: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return int64[count]: the nanosecond nearest to n / fps."""
    return (np.arange(count, dtype=np.int64) * SECOND + fps // 2) // fps


def language_style_column(style: str) -> str:
    """Return the LeRobot column for a style: what happens at one frame is an event, what holds from there on persists."""
    return LANGUAGE_COLUMNS[1] if style in ("interjection", "vqa", "trace", "gaze") else LANGUAGE_COLUMNS[0]


def _fps(job: ExportJob, notes: list[str]) -> int:
    asked = job.options.fps
    rate = float(asked) if asked is not None else job.contract.control_hz or _measured_rate(job)
    fps = round(rate)
    if fps < 1:
        raise UsageError(
            f"{job.name} runs at {rate:.3f} Hz and LeRobot needs a whole number of frames per second; give one with --fps"
        )
    if not math.isclose(fps, rate):
        notes.append(f"{rate:.6g} Hz was laid on a {fps} Hz grid, because LeRobot's fps is a whole number")
    return fps


def _measured_rate(job: ExportJob) -> float:
    times = _steps(job, job.episodes[0]).column("t_ns").combine_chunks().to_numpy()
    if len(times) < 2:
        raise UsageError(
            f"{job.name} states no control rate and its first episode is too short to measure one; give it with --fps"
        )
    return SECOND / float(np.median(np.diff(times)))


def _columns(job: ExportJob, notes: list[str]) -> tuple[tuple[Column, ...], dict[str, str]]:
    contract, columns, renamed = job.contract, list[Column](), dict[str, str]()
    for feature in contract.features:
        if feature.privileged and not job.options.privileged:
            continue
        key = _key(feature.name)
        if key in {c.key for c in columns}:
            raise ContractError(
                f"{job.name}: the feature {feature.name!r} would be called {key!r} in LeRobot, which another one is"
            )
        if key != feature.name.removeprefix(RENAMED):
            renamed[feature.name] = key
            notes.append(f"feature {feature.name!r} is called {key!r}, because LeRobot cannot hold a feature of that name")
        columns.append(Column(feature, key, _shape(feature, notes)))
    if not any(f.role == "reward" for f in contract.features) and REWARD not in {c.key for c in columns} and _has_rewards(job):
        columns.append(Column(Feature("reward", "float32", (1,), role="reward"), REWARD, (1,)))
    return tuple(columns), renamed


def _key(name: str) -> str:
    """Return a feature name LeRobot accepts: no slash, nothing reserved, and no `image`, which it takes for a picture."""
    key = name.removeprefix(RENAMED).replace("/", ".").replace("image", "img")
    return f"source_{key}" if key in RESERVED else key


def _shape(feature: Feature, notes: list[str]) -> tuple[int, ...]:
    if feature.shape == ():
        return (1,)
    if len(feature.shape) > MAX_DIMENSIONS:
        notes.append(f"feature {feature.name!r} has {len(feature.shape)} dimensions and was flattened; LeRobot knows up to 5")
        return (feature.size,)
    return feature.shape


def _cameras(job: ExportJob, origin: Sequence[dict[str, Any]], native: bool, notes: list[str]) -> list[CameraPlan]:
    plans: list[CameraPlan] = []
    for camera in job.contract.cameras:
        if camera.privileged and not job.options.privileged:
            continue
        found = (e.open(job.lake).tracks.get((e.episode_id, camera.name)) for e in job.episodes)
        headers = [track.header for track in found if track is not None]
        codecs = {header.codec for header in headers}
        if not headers:
            notes.append(f"camera {camera.name!r} has no pictures in any chosen episode and was left out")
            continue
        stills = all(camera.name in o.get("images", ()) for o in origin)
        labels = codecs <= LOSSLESS and camera.role in ("segmentation", "depth")  # a lossy codec would change labels
        key = camera.key if native and camera.key else IMAGES + camera.name
        depth = origin[0].get("depth", {}).get(camera.name)
        storage = "image" if stills or labels else "video"
        sound = _sound(job, camera.name, notes)
        plans.append(CameraPlan(camera, key, storage, headers[0], depth, sound, origin[0].get("audio", {}).get(camera.name)))
    return plans


def _languages(job: ExportJob) -> tuple[str, ...]:
    present = {language_style_column(row.style) for rows in job.language.values() for row in rows}
    if job.language:
        present.add(LANGUAGE_COLUMNS[0])
    for episode in {(e.dataset, e.shard): e for e in job.episodes}.values():
        present |= set(episode.open(job.lake).streams.column("stream").unique().to_pylist()) & set(LANGUAGE_COLUMNS)
    return tuple(name for name in LANGUAGE_COLUMNS if name in present)


def _has_rewards(job: ExportJob) -> bool:
    return all(_steps(job, e).column("reward").null_count == 0 for e in job.episodes)


def _survey(job: ExportJob, fps: int, tasks: dict[str, int]) -> tuple[tuple[int, ...], dict[str, int], bool]:
    """Look at every episode's steps once: lengths, task numbers (after the known `tasks`), and whether any clock is not the grid's."""
    lengths, off_grid = list[int](), False
    for episode in job.episodes:
        steps = _steps(job, episode)
        if steps.num_rows == 0:
            raise ContractError(f"episode {episode.episode_id} has no steps; LeRobot cannot hold it", episode=episode.episode_id)
        lengths.append(steps.num_rows)
        for name in task_texts(steps).dictionary.to_pylist():
            tasks.setdefault(name, len(tasks))
        times = steps.column("t_ns").combine_chunks().to_numpy()
        off_grid = off_grid or bool((np.abs(times - grid_times(len(times), fps)) > GRID_NS).any())
    return tuple(lengths), tasks, off_grid


def task_texts(steps: pa.Table) -> pa.DictionaryArray:
    """Return each step's instruction, in a dictionary of first appearance; a step without one has the empty task."""
    return steps.column("language").combine_chunks().cast(pa.string()).fill_null("").dictionary_encode()


def _steps(job: ExportJob, episode: ExportEpisode) -> pa.Table:
    return episode.open(job.lake).episode_steps(episode.episode_id)


def origins(job: ExportJob) -> list[dict[str, Any] | None]:
    """Return per episode what the LeRobot source kept about it; None where it came from elsewhere."""
    return [_lerobot_attributes(e) for e in job.episodes]


def _sound(job: ExportJob, camera: str, notes: list[str]) -> CodecHeader | None:
    """Return how the sound of a camera's videos is coded; further lines of sound are left out, with a note."""
    first: CodecHeader | None = None
    for episode in job.episodes:
        tracks = episode.open(job.lake).tracks
        known = tracks.get((episode.episode_id, sound_name(camera)))
        if known is not None and not can_remux(known.header):
            notes.append(f"camera {camera!r}: an mp4 cannot hold its {known.header.codec} sound, which was left out")
            return None
        first = first or (known.header if known is not None else None)
        if (episode.episode_id, sound_name(camera, 1)) in tracks:
            note = f"camera {camera!r} has several lines of sound; only the first was kept"
            notes += [note] * (note not in notes)
    return first


def _lerobot_attributes(episode: ExportEpisode) -> dict[str, Any] | None:
    """Return what the LeRobot source kept about an episode; None where it came from elsewhere."""
    text = episode.row.get("attributes")
    return json.loads(text).get("lerobot") if text else None
