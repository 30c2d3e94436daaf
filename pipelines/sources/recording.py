"""Reads what `pipelines.record` writes. Video packets and masks are copied as they are; every file is checked against its seal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.record import layout
from pipelines.record.recording import Facts, Header, existing_keys, read_facts, read_header
from pipelines.shards.demux import demux
from pipelines.shards.draft import EpisodeDraft, TrackDraft
from pipelines.sources.base import Group, SourceOptions, file_seal, inside, local_root, natural_key
from pipelines.unit import Reject
from schemas.contract import Camera, Contract, overlay
from schemas.errors import CorruptMediaError, DataError, LengthMismatchError, MalformedSourceError, MissingFileError
from schemas.shards import STREAMS, CodecHeader, steps_schema


@dataclass(frozen=True, slots=True)
class RecordingSource:
    """A folder of simulated episodes as `cotrain record` leaves it; its layout is told in `pipelines.record.layout`."""

    uri: str
    options: SourceOptions
    name: ClassVar[str] = "recording"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        """Tell whether `uri` is a local folder with a recording's header."""
        path = Path(uri.removeprefix("file://")).expanduser()
        try:
            return path.is_dir() and read_header(path) is not None
        except MalformedSourceError:
            return False

    def contract(self) -> Contract:
        """Return the recorded contract under the dataset's name, the user's overlay applied.

        Raises:
            MissingFileError: there is no such folder, or no `recording.json` in it.
            MalformedSourceError: `recording.json` is not a recording's.
        """
        recorded = self._header().contract
        licence = self.options.licence or recorded.licence
        # Lists that standardise are the lake's: one that a recorder declared would be applied to what is ingested next.
        named = replace(recorded, dataset=self.options.dataset, licence=licence, standardise=())
        return overlay(named, self.options.contract) if self.options.contract else named

    def groups(self) -> Sequence[Group]:
        """Group the episodes, in natural order of their keys, up to `shard_bytes` each."""
        root = self._root()
        groups: list[Group] = []
        pending: list[tuple[str, int]] = []
        for key in sorted(existing_keys(root), key=natural_key):
            size = sum(path.stat().st_size for path in _files(root / layout.EPISODES / key))
            if pending and sum(s for _, s in pending) + size > self.options.shard_bytes:
                groups.append(_group(root, pending))
                pending = []
            pending.append((key, size))
        return [*groups, _group(root, pending)] if pending else groups

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        """Yield every episode of `group`; one whose files are damaged, missing or contradict each other is a `Reject`."""
        root, contract, simulator = self._root(), self.contract(), self._header().spec.simulator
        for key in group.payload:
            folder = root / layout.EPISODES / key
            try:
                yield _read_episode(folder, contract, simulator)
            except DataError as error:
                yield Reject.of(error, key, str(folder))

    def _root(self) -> Path:
        return local_root(self.uri)

    def _header(self) -> Header:
        root = self._root()
        header = read_header(root)
        if header is None:
            raise MissingFileError(f"{root / layout.RECORDING} is missing, so {root} is no recording", uri=self.uri)
        return header


def _group(root: Path, members: list[tuple[str, int]]) -> Group:
    keys = tuple(key for key, _ in members)
    inputs = [
        [key, [[str(path.relative_to(root)), file_seal(path)] for path in _files(root / layout.EPISODES / key)]] for key in keys
    ]
    label = keys[0] if len(keys) == 1 else f"{keys[0]} .. {keys[-1]}"
    return Group(label, len(keys), sum(size for _, size in members), inputs, keys)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read_episode(folder: Path, contract: Contract, simulator: str) -> EpisodeDraft:
    facts = read_facts(folder)
    _check_seals(folder, facts)
    steps = _read_steps(folder, contract, facts)
    tracks = tuple(
        _masks(folder, camera, facts) if camera.role in ("segmentation", "depth") else _video(folder, camera)
        for camera in contract.cameras
    )
    return EpisodeDraft(
        folder.name, steps, tracks, streams=_read_streams(folder), success=facts.success,
        split_group="/".join([simulator, facts.task, str(facts.scene), *facts.attributes.get("split_parts", ())]), uri=str(folder),
        attributes={"task": facts.task, **facts.attributes},
    )  # fmt: skip


def _check_seals(folder: Path, facts: Facts) -> None:
    """Compare every file with what it was when it was recorded: a flipped bit in a video may decode without a complaint."""
    for name, seal in facts.files.items():
        path = inside(folder, name)
        if not path.is_file():
            raise MissingFileError(
                f"{path} is missing; copy the episode again, or delete its folder and record again",
                uri=str(path),
                episode=folder.name,
            )
        if path.stat().st_size != seal.bytes or file_seal(path) != seal.blake3:
            raise CorruptMediaError(
                f"{path} is not what was recorded: {path.stat().st_size} of {seal.bytes} bytes, or other content; copy it again",
                uri=str(path),
                episode=folder.name,
            )


def _read_steps(folder: Path, contract: Contract, facts: Facts) -> pa.Table:
    schema = steps_schema(contract)
    schema = schema.remove(schema.get_field_index("episode_id"))
    table = _read_parquet(folder / layout.STEPS, schema)
    if table.num_rows != facts.steps:
        raise LengthMismatchError(
            f"{folder / layout.STEPS} has {table.num_rows} steps and {layout.EPISODE} says {facts.steps}",
            uri=str(folder),
            episode=folder.name,
        )
    return table


def _read_streams(folder: Path) -> pa.Table:
    return _read_parquet(folder / layout.STREAMS, STREAMS.remove(0))


def _read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(path)
        return table.select(schema.names).cast(schema)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing; copy the episode again", uri=str(path)) from error
    except (pa.ArrowException, KeyError, OSError) as error:
        raise MalformedSourceError(f"{path} does not hold the columns the contract declares: {error}", uri=str(path)) from error


def _video(folder: Path, camera: Camera) -> TrackDraft:
    return demux(str(folder / layout.video_name(camera.name))).whole(camera.name, origin_s=0.0)


def _masks(folder: Path, camera: Camera, facts: Facts) -> TrackDraft:
    """Return the PNG files of one segmentation or depth camera as packets; their names are their times."""
    names = sorted(name for name in facts.files if name.startswith(f"{camera.name}/"))
    if strange := [name for name in names if not Path(name).stem.isdecimal()]:
        raise MalformedSourceError(f"{folder / strange[0]}: a mask is named after its time in nanoseconds", uri=str(folder))
    times = np.array([int(Path(name).stem) for name in names], np.int64)
    data = [inside(folder, name).read_bytes() for name in names]
    count = len(data)
    header = CodecHeader(
        "png", width=camera.width, height=camera.height, pix_fmt="gray16be" if camera.role == "depth" else "gray"
    )
    return TrackDraft(camera.name, header, np.arange(count, dtype=np.int32), times, np.ones(count, bool), data)
