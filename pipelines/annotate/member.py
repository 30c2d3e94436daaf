"""One annotator on its way through a shard: what it has said so far, what that cost, and how its pieces become one table."""

import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotators.base import Annotator, Batch
from annotators.check import check_output
from annotators.clips import Clip, Look, Needs
from annotators.device import utilisation
from pipelines.annotate.effort import Effort
from pipelines.annotate.memory import room_for, run_within
from pipelines.annotate.parts import Part
from pipelines.shards.reader import Shard
from pipelines.unit import Reject


@dataclass(frozen=True, slots=True)
class Annotated:
    """What came of one annotator on one shard: rows, or the error that kept it from having any."""

    rows: pa.Table | None = None
    error: Exception | None = None
    rejects: tuple[Reject, ...] = ()
    pictures: int = 0
    effort: Effort | None = None


@dataclass
class Member:
    """One annotator, its needs on this dataset, and what it has said so far; `rows` by episode and first own step."""

    annotator: Annotator
    needs: Needs
    device: str
    rows: dict[tuple[str, int], pa.Table] = field(default_factory=dict[tuple[str, int], pa.Table])
    error: Exception | None = None
    model_s: float = 0.0
    pictures: int = 0
    halvings: int = 0
    gauge: list[float] = field(default_factory=list[float])

    def whole(self, shard: Shard) -> Annotated:
        """Annotate a shard without pictures, at once."""
        streams = streams_of(shard.streams, self.needs) if self.needs.streams else None
        batch, started = Batch(shard.contract, shard.steps, streams=streams, device=self.device), time.perf_counter()
        pieces = self._run(batch)
        if self.error is not None:
            return Annotated(error=self.error)
        rows = pieces[0] if len(pieces) == 1 else check_output(self.annotator, batch, join(pieces))
        return Annotated(rows, effort=self._effort(time.perf_counter() - started, 0.0))

    def feed(self, shard: Shard, group: tuple[Part, ...], clips: dict[Look, list[Clip]]) -> None:
        """Annotate one group of parts and keep the rows that are each part's own; an error is kept, not raised."""
        steps = pa.concat_tables([shard.episode_steps(p.episode).slice(p.start, p.stop - p.start) for p in group])
        shows = {look.camera: tuple(clips[look]) for look in self.needs.looks}
        streams = None
        if self.needs.streams:
            ids = pa.array([p.episode for p in group], pa.string())
            asked = streams_of(shard.streams, self.needs)
            streams = asked.filter(pc.is_in(asked.column("episode_id").cast(pa.string()), ids))
        pieces = self._run(Batch(shard.contract, steps, shows, streams, device=self.device))
        if self.error is not None:
            return
        self.pictures += sum(len(c) for have in shows.values() for c in have)
        if (share := utilisation(self.device)) is not None:
            self.gauge.append(share)
        self._keep(group, join(pieces))

    def finish(self, shard: Shard, seconds: float, wait_s: float, rejects: tuple[Reject, ...]) -> Annotated:
        """Put the kept rows into shard order and hold the whole table to the contract once more."""
        if self.error is not None:
            return Annotated(error=self.error)
        place = {episode: n for n, episode in enumerate(shard.episode_ids)}
        pieces = [self.rows[key] for key in sorted(self.rows, key=lambda key: (place[key[0]], key[1]))]
        whole = Batch(shard.contract, shard.steps)
        try:
            rows = check_output(self.annotator, whole, join(pieces)) if pieces else self.annotator.run(whole)
        except Exception as error:
            return Annotated(error=error)
        return Annotated(rows, None, rejects, self.pictures, self._effort(seconds, wait_s))

    def _run(self, batch: Batch) -> list[pa.Table]:
        room, started = room_for(self.annotator, self.device), time.perf_counter()
        before = room.halvings
        try:
            return run_within(self.annotator, batch, room, partial(check_output, self.annotator))
        except Exception as error:
            self.error = error
            return []
        finally:
            self.model_s += time.perf_counter() - started
            self.halvings += room.halvings - before

    def _keep(self, group: tuple[Part, ...], rows: pa.Table) -> None:
        """Cut each part's context off its rows, and number steps from the episode's first."""
        names = rows.column("episode_id").combine_chunks()
        place = {p.episode: n for n, p in enumerate(group)}
        which = np.array([place.get(e, -1) for e in names.dictionary.to_pylist()], np.int64)[names.indices.to_numpy()]
        first = rows.column("start_step").to_numpy()
        for number, part in enumerate(group):
            own = np.flatnonzero(which == number)
            inside = (first[own] + part.start >= part.keep) & (first[own] + part.start < part.keep_stop)
            kept = rows.take(pa.array(own[inside]))
            self.rows[part.episode, part.keep] = _shifted(kept, part.start) if part.start else kept

    def _effort(self, seconds: float, wait_s: float) -> Effort:
        busy = float(np.mean(self.gauge)) if self.gauge else (self.model_s / seconds if seconds else 0.0)
        at_once = room_for(self.annotator, self.device).at_once
        return Effort(self.device, seconds, wait_s, self.model_s, busy, self.halvings, at_once)


def streams_of(streams: pa.Table, needs: Needs) -> pa.Table:
    """Return the samples of the signals that were asked for."""
    return streams.filter(pc.is_in(streams.column("stream").cast(pa.string()), pa.array(needs.streams, pa.string())))


def join(pieces: list[pa.Table]) -> pa.Table:
    """Lay tables of one annotator end to end; the result depends on their rows only, not on how they were cut."""
    table = pa.concat_tables(pieces)
    plain = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    return table.cast(pa.schema(plain)).combine_chunks().cast(table.schema)


def _shifted(rows: pa.Table, steps: int) -> pa.Table:
    for name in ("start_step", "end_step"):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pc.add(rows.column(name), pa.scalar(steps, pa.int32())))
    return rows
