"""The LeRobot adapter: groups episodes by size, and turns each into a draft or a reject that names file and cause.

What differs between versions of the format is behind `Layout`; version 3.0 is the one read here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipelines.shards.draft import EpisodeDraft, TrackDraft, build_steps, build_streams
from pipelines.sources.base import Group, SourceOptions, file_seal, inside, local_root
from pipelines.sources.lerobot.info import INFO, Info, read_raw
from pipelines.sources.lerobot.language import stream_of
from pipelines.sources.lerobot.media import VideoFiles, check_shown, image_track, match_frames
from pipelines.sources.lerobot.rows import EpisodeRow, Layout, Listing
from pipelines.sources.lerobot.tables import GRID_S, DataFiles, feature_values, step_times, stored_dtype
from pipelines.sources.lerobot.v3 import V3
from pipelines.unit import Reject
from schemas.contract import Contract, overlay
from schemas.errors import DataError, MalformedSourceError

V1_INFO = "meta_data/info.json"
SUCCESS = "next.success"


@dataclass(frozen=True, slots=True)
class LeRobotSource:
    """A LeRobot dataset in a local folder, v3.0.

    Features keep their dtype and shape, videos and images their bytes; language columns become streams (see `language`). A step's
    clock is its timestamp, snapped to the frame grid; each camera's frame is the one shown nearest to it.
    """

    uri: str
    options: SourceOptions
    name: ClassVar[str] = "lerobot"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        """Tell whether `uri` is a folder with LeRobot's metadata, of any version."""
        root = Path(uri.removeprefix("file://")).expanduser()
        return (root / INFO).is_file() or (root / V1_INFO).is_file()

    def contract(self) -> Contract:
        """Return the declared contract with the user's overlay.

        Raises:
            MissingFileError: the folder or its metadata do not exist.
            MalformedSourceError: the metadata is unusable, or of a version that is not read.
            ContractError: the overlay contradicts the declaration.
        """
        declared = self._layout().info.contract(self.options.dataset, self.options.licence)
        return overlay(declared, self.options.contract or {})

    def groups(self) -> Sequence[Group]:
        """Group consecutive episodes up to `shard_bytes`. Reads metadata and the seals of the files, no episode.

        Raises:
            MalformedSourceError: the metadata is unusable.
        """
        layout = self._layout()
        layout.tasks()
        listing, root = layout.listing(), layout.info.root
        shared = {p.relative_to(root).as_posix(): file_seal(p) for p in layout.shared_files()}
        sizes, seals = _sizes(listing.rows, root), dict[str, str]()
        groups: list[Group] = []
        for batch in _batches(listing.rows, sizes, self.options.shard_bytes):
            names = sorted({f for r in batch for f in (r.data, *(v.file for v in r.videos))})
            for name in names:
                if name not in seals:
                    seals[name] = _seal(root, name)
            inputs = {"files": shared | {n: seals[n] for n in names}, "episodes": [asdict(r) for r in batch]}
            label = f"{self.uri} episodes {batch[0].index} to {batch[-1].index}"
            groups.append(
                Group(label, len(batch), int(sum(sizes[r.index] for r in batch)), inputs, Listing(tuple(batch), 0, listing.notes))
            )
        if listing.missing:
            inputs = {"missing": listing.missing, "described": len(listing.rows)}
            groups.append(Group(f"{self.uri} {INFO}", listing.missing, 0, inputs, _undescribed(layout.info, listing)))
        return groups

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        """Yield each episode of `group` in order, or a reject in its place."""
        if isinstance(group.payload, Reject):
            yield group.payload
            return
        reader = _GroupReader(self._layout(), self.contract(), group.payload)
        for row in group.payload.rows:
            try:
                yield reader.draft(row)
            except DataError as error:
                yield Reject.of(error, str(row.index), self.uri)

    def _layout(self) -> Layout:
        root = local_root(self.uri)
        if not (root / INFO).is_file() and (root / V1_INFO).is_file():
            raise _unread(root / V1_INFO, "v1")
        raw = read_raw(root)
        version = str(raw.get("codebase_version", ""))
        if not version.startswith("v3."):
            raise _unread(root / INFO, version or "no codebase_version")
        return V3.open(root, raw)


class _GroupReader:
    """Builds the drafts of one group."""

    def __init__(self, layout: Layout, contract: Contract, listing: Listing) -> None:
        self._info, self._tasks = layout.info, layout.tasks()
        self._contract, self._notes = contract, listing.notes
        self._data, self._videos = DataFiles(self._info, listing.rows), VideoFiles(self._info, listing.rows)

    def draft(self, row: EpisodeRow) -> EpisodeDraft:
        """Read one episode; any `DataError` says what is wrong with it."""
        info, uri = self._info, str(inside(self._info.root, row.data))
        table = self._data.episode(row)
        columns = {f.name: feature_values(table, info.columns[f.name], f, uri) for f in info.features}
        t_ns = step_times(table, info.fps)
        notes = [*self._notes, *(f"column {c!r} is not declared and was left out" for c in self._data.extra_columns(row))]
        notes += self._casts(table)
        tracks: list[TrackDraft] = []
        frames: dict[str, Any] = {}
        for span in row.videos:
            path = str(inside(info.root, span.file))
            track = self._videos.track(span)
            seen, distance = match_frames(track.times_ns(), t_ns, info.fps)
            check_shown(seen, track, span, row, path)
            if distance > GRID_S:
                notes.append(f"camera {span.camera}: the video's clock is up to {distance * 1e3:.3f} ms off the table's")
            tracks.append(track)
            frames[span.camera] = seen
        for spec in (c for c in info.cameras if c.storage == "image"):
            tracks.append(image_track(spec.camera.name, table.column(spec.key), t_ns, info, uri))
            frames[spec.camera.name] = np.arange(len(t_ns), dtype=np.int32)
        streams = [stream_of(name, table.column(name).combine_chunks(), t_ns) for name in info.languages]
        steps = build_steps(self._contract, t_ns, columns, language=self._language(table, row, uri), frames=frames)
        return EpisodeDraft(
            str(row.index),
            steps,
            tuple(tracks),
            build_streams([s for s in streams if s is not None]),
            success=_success(columns),
            uri=uri,
            notes=tuple(notes),
            attributes=_attributes(info),
        )

    def _language(self, table: pa.Table, row: EpisodeRow, uri: str) -> list[str | None]:
        numbers = table.column("task_index").to_pylist()
        unknown = sorted(set(numbers) - set(self._tasks))
        if unknown:
            raise MalformedSourceError(
                f"{uri}: episode {row.index} has task_index {unknown[0]}, which meta/tasks does not list", uri=uri
            )
        return [self._tasks[n] for n in numbers]

    def _casts(self, table: pa.Table) -> list[str]:
        """Say which columns are stored in another type than declared; like LeRobot, the declared one is used."""
        notes: list[str] = []
        for feature in self._info.features:
            if feature.dtype != "string":
                column = self._info.columns[feature.name]
                stored, declared = stored_dtype(table, column), str(pa.from_numpy_dtype(np.dtype(feature.dtype)))
                if stored != declared:
                    notes.append(f"column {column!r} is stored as {stored} and was cast to {feature.dtype}")
        return notes


def _sizes(rows: Sequence[EpisodeRow], root: Path) -> dict[int, float]:
    """Estimate each episode's bytes: its share of every file it is in, by duration in videos and by rows in tables."""
    seconds, steps = dict[str, float](), dict[str, int]()
    for row in rows:
        steps[row.data] = steps.get(row.data, 0) + max(row.length, 0)
        for span in row.videos:
            seconds[span.file] = max(seconds.get(span.file, 0.0), span.end_s)
    weight = {name: _size(root, name) for name in [*steps, *seconds]}
    return {
        r.index: weight[r.data] * max(r.length, 0) / (steps[r.data] or 1)
        + sum(weight[s.file] * max(s.end_s - s.start_s, 0.0) / (seconds[s.file] or 1.0) for s in r.videos)
        for r in rows
    }


def _batches(rows: Sequence[EpisodeRow], sizes: Mapping[int, float], limit: int) -> Iterator[list[EpisodeRow]]:
    batch, total = list[EpisodeRow](), 0.0
    for row in rows:
        if batch and total + sizes[row.index] > limit:
            yield batch
            batch, total = [], 0.0
        batch.append(row)
        total += sizes[row.index]
    if batch:
        yield batch


def _size(root: Path, name: str) -> int:
    path = inside(root, name)
    return path.stat().st_size if path.is_file() else 0


def _seal(root: Path, name: str) -> str:
    return file_seal(inside(root, name))


def _success(columns: Mapping[str, Any]) -> bool | None:
    """Take an episode as successful if any step says so; LeRobot's convention for simulated environments."""
    values = columns.get(SUCCESS)
    return bool(np.any(values)) if values is not None and len(values) else None


def _attributes(info: Info) -> dict[str, Any]:
    """Keep what the contract has no place for and an export back to LeRobot needs."""
    kept: dict[str, Any] = {}
    if images := [c.camera.name for c in info.cameras if c.storage == "image"]:
        kept["images"] = images
    if depth := {c.camera.name: dict(c.info) for c in info.cameras if c.is_depth}:
        kept["depth"] = depth
    if isinstance(info.raw.get("tools"), list):
        kept["tools"] = info.raw["tools"]
    return {"lerobot": kept} if kept else {}


def _undescribed(info: Info, listing: Listing) -> Reject:
    described = len(listing.rows)
    message = (
        f"{info.uri} promises {described + listing.missing} episodes, but the tables in meta/episodes describe only {described}: "
        f"{listing.missing} cannot be found. Restore the missing meta/episodes file"
    )
    return Reject("undescribed", info.uri, "MissingFileError", message, listing.missing)


def _unread(path: Path, version: str) -> MalformedSourceError:
    return MalformedSourceError(
        f"{path} says {version}; cotrain reads LeRobot v3.0. Convert the set with LeRobot's convert_dataset_v21_to_v30",
        uri=str(path),
    )
