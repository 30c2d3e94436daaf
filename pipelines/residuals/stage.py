"""The cache stage: episodes without rows under the present key are computed, in units that are written and committed once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.manifest import Mixture, open_mixture
from pipelines.publish import publish, temporary_for
from pipelines.residuals.compute import Columns, compute
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.keys import CODE, EpisodeRef, cache_key, cache_parts
from pipelines.residuals.precision import Precision
from pipelines.residuals.reading import EpisodeReader, Part, episodes_of, readers_of
from pipelines.residuals.teacher import Teacher
from pipelines.residuals.writing import CacheWriter, write_ipc
from pipelines.unit import Output, Reject, Unit
from schemas.errors import DataError, LakeError, UsageError
from schemas.ids import unit_id


class TeacherSource(Protocol):
    """Where a stage's teacher comes from. Picklable, where units are to run in other processes."""

    def open(self) -> Teacher:
        """Return the teacher, the same one every time."""
        ...


@dataclass(frozen=True)
class Held:
    """A teacher that is already in this process."""

    teacher: Teacher

    def open(self) -> Teacher:
        """Return it."""
        return self.teacher


@dataclass(frozen=True, slots=True)
class Work:
    """A unit's payload: the key it was planned under and the episodes it covers."""

    key: str
    refs: tuple[EpisodeRef, ...]


@dataclass(frozen=True)
class CacheStage:
    """Cache one teacher over some sources of a mixture.

    Attributes:
        lake: where the mixture is and the cache goes.
        mixture: `NAME` or `NAME@HASH`.
        source: opens the teacher.
        config: what to cache.
        sources: names of the mixture's sources; empty: all.
    """

    lake: Lake
    mixture: str
    source: TeacherSource
    config: CacheConfig = field(default_factory=CacheConfig)
    sources: tuple[str, ...] = ()
    name: str = "cache"

    @cached_property
    def opened(self) -> Mixture:
        """The mixture."""
        name, _, wanted = self.mixture.partition("@")
        return open_mixture(self.lake, name, wanted or None)

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, checked against the mode.

        Raises:
            UsageError: the mode cannot store what it gives.
        """
        found = self.source.open()
        self.config.check_kind(found.spec.teacher_id, found.spec.kind)
        return found

    @cached_property
    def parts(self) -> dict[str, Any]:
        """What the cache's key hashes."""
        return cache_parts(self.teacher.spec, self.config)

    @cached_property
    def key(self) -> str:
        """The cache's key."""
        return cache_key(self.parts)

    @cached_property
    def readers(self) -> dict[str, EpisodeReader]:
        """A reader per dataset of the chosen sources."""
        frame = self.opened.index.frame().filter(pl.col("source").is_in(self._source_names()))
        found = readers_of(self.opened, self.teacher.needs, frame["dataset"].unique().sort().to_list())
        for reader in found.values():
            check_space(self.teacher, reader)
        return found

    @property
    def gpus(self) -> int:
        """How many GPUs one unit needs."""
        return int(str(getattr(self.source, "device", "cpu")).startswith("cuda"))

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was opened behind: workers open it again."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    def episodes(self) -> list[EpisodeRef]:
        """Return every episode the cache is to cover."""
        return episodes_of(self.opened, self.key, self.readers, self._source_names())

    def plan(self) -> Sequence[Unit]:
        """Return the units that are committed, then one or more per shard for the episodes that no file covers."""
        refs = self.episodes()
        done, covered = self._committed(refs)
        missing = [r for r in refs if r.key not in covered]
        units: list[Unit] = []
        for group in _groups(missing, max(self.config.unit_rows // self.config.draws, 1), self.config.stride):
            name = unit_id(self.name, [self.teacher.spec.teacher_id, [r.key for r in group]], self.key, CODE)
            units.append(self._unit(name, tuple(group)))
        return [*done, *units]

    def work(self, unit: Unit) -> Output:
        """Compute one unit. An episode that cannot be read or answered for goes to quarantine; the others are written.

        Raises:
            LakeError: this process would compute something else than was planned.
        """
        work: Work = unit.payload
        if work.key != self.key:
            raise LakeError(
                f"unit {unit.label} was planned under cache key {work.key}, this process has {self.key}: its teacher or its libraries "
                "differ from those of the process that planned. Give every worker the same checkpoint and the same versions"
            )
        writer = CacheWriter(self.teacher.spec, self.config, self.key)
        precision, rejects = Precision(self.teacher, self.config), list[Reject]()
        found, errors = self._computed(work.refs, precision)
        for ref in work.refs:
            if ref.episode_id in errors:
                uri = self.lake.shard(ref.dataset, ref.shard, "steps")
                rejects.append(Reject.of(errors[ref.episode_id], ref.episode_id, uri))
            else:
                writer.add(ref, found[ref.episode_id])
        if not writer.episodes:
            return Output(rejects=tuple(rejects))
        precision.check()
        return self._written(unit, writer, precision.snr_db, tuple(rejects))

    def _computed(
        self, refs: Sequence[EpisodeRef], precision: Precision
    ) -> tuple[dict[str, list[tuple[Columns, Columns]]], dict[str, DataError]]:
        """Return the computed parts of each episode, and why others have none; the next part is read while one is computed."""
        found: dict[str, list[tuple[Columns, Columns]]] = {r.episode_id: [] for r in refs}
        errors: dict[str, DataError] = {}
        for part in self.readers[refs[0].dataset].parts(refs, self.config.batch, self.config.stride):
            ref = part[0] if isinstance(part, tuple) else part.ref
            if ref.episode_id in errors:
                continue
            try:
                checked = _readable(part, self.config)
                rows, shared = compute(self.teacher, self.config, checked)
                precision.look(checked, rows)
                found[ref.episode_id].append((rows, shared))
            except DataError as error:
                errors[ref.episode_id] = error
        return found, errors

    def _written(self, unit: Unit, writer: CacheWriter, snr_db: float | None, rejects: tuple[Reject, ...]) -> Output:
        rows = writer.table(snr_db)
        target = self.lake.residual(self.teacher.spec.teacher_id, self.key, unit.id)
        with temporary_for(self.lake, target) as path:
            write_ipc(rows, path)
            file = publish(self.lake, path, target)
        row = {
            "teacher": self.teacher.spec.teacher_id, "cache_key": self.key, "mode": self.config.mode, "shard": unit.id, "uri": file.path,
            "blake3": file.blake3, "rows": rows.num_rows, "bytes": file.bytes, "staleness": 0.0, "dataset": unit.dataset,
            "episodes": [e.episode_id for e in writer.episodes], "episode_keys": [e.key for e in writer.episodes],
            "config": json.dumps(self.parts | {"snr_db": snr_db}, sort_keys=True),
            "source_shard": unit.payload.refs[0].shard,
        }  # fmt: skip
        return Output(
            (file,),
            {"residuals": pa.Table.from_pylist([row])},
            rejects,
            rows.num_rows,
            rows.num_rows // self.config.draws,
            file.bytes,
        )

    def _unit(self, name: str, refs: tuple[EpisodeRef, ...]) -> Unit:
        frames = sum(r.frames(self.config.stride) for r in refs)
        label = f"{self.teacher.spec.teacher_id}: {refs[0].dataset}/{refs[0].shard} ({frames} frames)"
        size = frames * self.config.draws * (4 * self.teacher.spec.horizon * self.teacher.spec.action_dim + 54)
        return Unit(name, self.name, refs[0].dataset, label, Work(self.key, refs), size, len(refs))

    def _committed(self, refs: Sequence[EpisodeRef]) -> tuple[list[Unit], set[str]]:
        """Return finished units whose episodes are all wanted still, and the keys of the wanted episodes that have rows."""
        catalog, wanted = Catalog(self.lake), {r.key: r for r in refs}
        rows = catalog.latest("residuals").filter(
            (pl.col("teacher") == self.teacher.spec.teacher_id) & (pl.col("cache_key") == self.key)
        )
        units, covered = list[Unit](), set[str]()
        for name, uri, keys in rows.select("shard", "uri", "episode_keys").collect().iter_rows():
            held = [wanted[k] for k in keys if k in wanted]
            if len(held) == len(keys):
                units.append(self._unit(name, tuple(held)))
            elif held and not self.lake.fs.exists(self.lake.path(uri)):
                continue  # half of it is no longer wanted and the file is lost: what is wanted of it is computed anew
            covered |= {r.key for r in held}
        return units, covered

    def _source_names(self) -> list[str]:
        known = [s.name for s in self.opened.spec.sources]
        if unknown := [s for s in self.sources if s not in known]:
            raise UsageError(f"mixture {self.opened.name} has no source {', '.join(unknown)}; it has {', '.join(known)}")
        return list(self.sources or known)


def _readable(part: Part | tuple[EpisodeRef, Exception], config: CacheConfig) -> Part:
    """Return a part that was read, and that the control can be made of.

    Raises:
        DataError: it could not be read, or is too short.
    """
    if isinstance(part, tuple):
        raise part[1]
    if config.shuffle_future and len(part.frames) < 2:
        raise DataError("an episode part of one frame has no other future to be given", episode=part.ref.episode_id)
    return part


def check_space(teacher: Teacher, reader: EpisodeReader) -> None:
    """Refuse a dataset whose actions are not the teacher's.

    Raises:
        UsageError: action space or rate differ.
    """
    spec, contract = teacher.spec, reader.contract
    if spec.action_space and spec.action_space != contract.action_space:
        raise UsageError(
            f"teacher {spec.teacher_id} was trained on the action space {spec.action_space}, dataset {contract.dataset} has "
            f"{contract.action_space}; give this source another teacher, or leave it out with --source"
        )
    if spec.control_hz and contract.control_hz and abs(spec.control_hz / contract.control_hz - 1) > 0.01:
        raise UsageError(
            f"teacher {spec.teacher_id} acts at {spec.control_hz:g} Hz, dataset {contract.dataset} at {contract.control_hz:g} Hz; "
            "resample the dataset, or leave the source out with --source"
        )


def _groups(refs: Sequence[EpisodeRef], most: int, stride: int) -> list[list[EpisodeRef]]:
    """Cut episodes into runs of one shard with at most `most` frames, or of a single longer episode."""
    groups: list[list[EpisodeRef]] = []
    frames = 0
    for ref in refs:
        size = ref.frames(stride)
        if not groups or (groups[-1][0].dataset, groups[-1][0].shard) != (ref.dataset, ref.shard) or frames + size > most:
            groups.append([])
            frames = 0
        groups[-1].append(ref)
        frames += size
    return groups
