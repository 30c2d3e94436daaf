"""Segments: a sorted cover of every episode, each part with its boundaries, what ends it, its phase, its subtask in words. No model.

Boundaries are cut by dynamic programming over what the robot's own signals tell (`annotators.segments.boundaries`); phases follow
from energies, the gripper and, in simulation, objects (`annotators.segments.phases`). Rows have LeRobot's style `subtask`; between
the task above and the language motions below they are the middle of the hierarchy task - subtask - motion - action.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.motion.language_motion import LanguageMotion
from annotators.motion.source import find_source
from annotators.motion.things import object_columns, object_streams
from annotators.segments.boundaries import Boundaries, find_boundaries
from annotators.segments.config import PHASES, SegmentsConfig
from annotators.segments.phases import name_segments, usual_speeds
from annotators.segments.rows import Part, as_table, coded, label_runs, spans_of
from annotators.segments.tracks import REASONS, Track, read_tracks, touch_columns
from annotators.segments.words import Spoken, motions_within, reword, tasks_of
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.settings import parse_settings
from transforms.grid import changes, runs
from transforms.macros import learn
from transforms.rotation import F64


@dataclass(frozen=True, slots=True)
class Segments:
    """Annotates episodes with segments; see the module's text."""

    config: SegmentsConfig = field(default_factory=SegmentsConfig)

    name: ClassVar[str] = "segments"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", NAME),  # the subtask in words
            pa.field("style", NAME),  # LeRobot's style
            pa.field("label", pa.uint8()),  # number of the phase in `PHASES`
            pa.field("phase", NAME),
            pa.field("object", NAME),  # null where unknown
            pa.field("who", NAME),  # which arm; empty where there is one
            pa.field("energies", pa.list_(pa.float32())),  # translation, rotation, grasp: shares that sum to 1; all 0 at rest
            pa.field("boundary_score", pa.float32()),  # how much dearer without the boundary at its start; null: the first
            pa.field("termination", NAME),  # what ends it: gripper, object, contact, stop, minimum, jerk, curve, gap, episode_end
            pa.field("macro", pa.int32()),  # macro code it belongs to, and
            pa.field("macro_step", pa.int16()),  # its place in there
            pa.field("task", NAME),  # what the episode says at its start
            pa.field("motions", pa.list_(pa.string())),  # language motions inside it, in order
            pa.field("motion_ngrams", pa.list_(pa.string())),  # the most frequent of them and of their sequences
            pa.field("source", NAME),  # proprio or action
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `SegmentsConfig`."""
        return cls(parse_settings(SegmentsConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, and the version of the language motions inside."""
        inside = (LanguageMotion().fingerprint(),) if self.config.motions else ()
        return fingerprint(self.name, self.version, self.settings(), inside)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the columns it reads; empty where the contract names nothing that moves."""
        source = find_source(contract)
        if source is None:
            return ()
        things = tuple(object_columns(contract).values()) if self.config.privileged else ()
        streams = tuple(f"stream:{s}" for s in self.needs(contract).streams)
        columns = (*source.columns, *things, *touch_columns(contract, self.config), *streams)
        return tuple(dict.fromkeys(columns))

    def needs(self, contract: Contract) -> Needs:
        """Ask for the poses of objects where a simulator recorded them."""
        known = find_source(contract) is not None and self.config.privileged
        return Needs(streams=tuple(object_streams(contract).values()) if known else ())

    def run(self, batch: Batch) -> pa.Table:
        """Cut and name every episode; stretches that cannot be read are in rows with the reason."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        source = find_source(batch.contract)
        if source is None:
            whole = [[Part(0, int(n), "no_motion_source")] for n in np.diff(batch.starts)]
            return self._table(batch, whole, "")
        parts = [self.cut(track, self._seconds(batch, at)) for at, track in enumerate(read_tracks(batch, source, self.config))]
        return self._table(batch, parts, source.kind)

    def cut(self, track: Track, seconds: F64) -> list[Part]:
        """Cut one episode, whose steps lie at `seconds` after its first."""
        first, length = runs(changes(track.reason))
        parts: list[Part] = []
        for a, n in zip(first.tolist(), length.tolist(), strict=True):
            start, stop = self._step(a, seconds), self._step(a + n, seconds) if a + n < track.size else len(seconds)
            if track.reason[a]:
                parts.append(Part(start, stop, REASONS[track.reason[a]]))
                continue
            stretch = track.part(slice(a, a + n))
            ends = "episode_end" if a + n == track.size else "gap"
            parts += self._named(stretch, find_boundaries(stretch, self.config, ends), seconds, a, stop)
        return [p for p in parts if p.stop > p.first]

    def calibrated(self, batch: Batch) -> Self:
        """Return this annotator with the energies' units and the macro codes of a dataset: its medians, its habits."""
        source = find_source(batch.contract)
        if source is None:
            return self
        tracks = list(read_tracks(batch, source, self.config))
        speeds = np.array([row for t in tracks for row in usual_speeds(t, self.config.hz)]).reshape(-1, 3)
        busy = [column[column > 1e-3] for column in speeds.T]
        scale = tuple(float(np.median(c)) if len(c) else d for c, d in zip(busy, self.config.scale, strict=True))
        first = replace(self, config=replace(self.config, scale=scale, merges=()))
        parts = [first.cut(t, self._seconds(batch, at)) for at, t in enumerate(tracks)]
        merges = learn([labels for p in parts for labels, _ in label_runs(p)], len(PHASES))
        return replace(self, config=replace(first.config, merges=merges))

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure boundaries, labels, invariances and compression; see `annotators.segments.evaluation`."""
        from annotators.segments.evaluation import evaluate_segments

        return evaluate_segments(self, heldout)

    def _named(self, stretch: Track, found: Boundaries, seconds: F64, offset: int, stop: int) -> list[Part]:
        config = self.config
        named = name_segments(stretch, found.first.tolist(), config.scale, config.still_mps, config.hz)
        edges = [*(self._step(offset + int(f), seconds) for f in found.first), stop]
        parts: list[Part] = []
        for at, name in enumerate(named):
            last = parts[-1] if parts else None
            if last is not None and last.named is not None and last.named.phase == name.phase == "idle":
                parts[-1] = replace(last, stop=edges[at + 1], cause=found.cause[at])  # longer than `longest_s`
                continue
            parts.append(Part(edges[at], edges[at + 1], None, name, float(found.gain[at]), found.cause[at]))
        return parts

    def _step(self, sample: int, seconds: F64) -> int:
        """First step at or after a sample of the clock of boundaries."""
        return int(np.searchsorted(seconds, sample / self.config.hz - 1e-6))

    def _seconds(self, batch: Batch, episode: int) -> F64:
        t = batch.t_ns[batch.starts[episode] : batch.starts[episode + 1]]
        return (t - t[0]) * 1e-9

    def _table(self, batch: Batch, parts: list[list[Part]], source: str) -> pa.Table:
        every = [coded(episode, self.config.merges) for episode in parts]
        flat, spans = [p for episode in every for p in episode], spans_of(batch, every)
        inside = motions_within(batch, spans.first, spans.stop) if self.config.motions else [()] * len(flat)
        named, tasks = [p.named for p in flat], tasks_of(batch, spans.first)
        spoken = [None if n is None else Spoken(n.text, tasks[at], inside[at]) for at, n in enumerate(named)]
        if self.config.wording:
            spoken = reword(self.config.wording, spoken, named, spans.episode)
        return as_table(self, batch, flat, spans, spoken, source)
