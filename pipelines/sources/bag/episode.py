"""Collected messages to one episode: steps by zero-order hold at the reference clock, streams and pictures on their own clocks.

The episode clock starts at the first step; `attributes.origin_ns` says when that was on the recorder's clock.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.shards.draft import I32, I64, EpisodeDraft, TrackDraft, build_steps, build_streams
from pipelines.sources.bag.collect import Collected, Series, collect, times_of
from pipelines.sources.bag.mapping import CameraMap, FeatureMap, Mapping, with_intrinsics
from pipelines.sources.bag.message import SECOND
from pipelines.sources.bag.open_bag import OpenBag
from pipelines.sources.bag.settings import BagSettings
from pipelines.sources.bag.split import Span
from pipelines.sources.bag.video import is_key, video_track
from pipelines.sources.pictures import picture_track
from schemas.contract import Contract
from schemas.errors import MalformedSourceError
from schemas.shards import NO_FRAME

STALE = 10  # a value held for longer than this many of its topic's periods is worth a note ...
STALE_NS = SECOND // 2  # ... if that is also longer than this

F64 = npt.NDArray[np.float64]


def read_episode(
    bag: OpenBag, span: Span, mapping: Mapping, settings: BagSettings, contract: Contract, notes: tuple[str, ...]
) -> EpisodeDraft:
    """Read one episode of a bag.

    Raises:
        MalformedSourceError: it has no step, or lacks a topic that the contract declares.
        CorruptMediaError: a part of it cannot be read.
        LengthMismatchError: messages or pictures change size.
    """
    got = collect(bag, span, mapping, settings)
    return _Builder(bag, span, mapping, settings, contract, got).build(notes)


@dataclass(slots=True)
class _Held:
    """A feature's values, one row per message from the first that completes it: times int64[n], values float64[n, size]."""

    times: I64
    values: F64


class _Builder:
    def __init__(
        self, bag: OpenBag, span: Span, mapping: Mapping, settings: BagSettings, contract: Contract, got: Collected
    ) -> None:
        self.bag, self.span, self.mapping, self.settings = bag, span, mapping, settings
        self.contract, self.got = contract, got
        self.notes = list[str]()
        self.clocks = dict[str, str]()

    def build(self, notes: tuple[str, ...]) -> EpisodeDraft:
        held = {f.feature.name: self.held(f) for f in self.mapping.features}
        ticks = self.ticks(held)
        origin = int(ticks[0])
        columns: dict[str, Any] = {name: self.sample(name, h, ticks) for name, h in held.items()}
        tracks = tuple(t for c in self.mapping.cameras if (t := self.track(c, origin)) is not None)
        steps = build_steps(
            self.contract, ticks - origin, columns, language=self.language(ticks),
            frames={t.camera: _seen(t, ticks - origin) for t in tracks},
        )  # fmt: skip
        streams = self.streams(origin)
        return EpisodeDraft(
            self.span.key, steps, tracks, streams, split_group=self.bag.bag.name, uri=self.bag.uri,
            notes=(*notes, *self.got.notes, *self.notes), attributes=self.attributes(origin),
        )  # fmt: skip

    def ticks(self, held: dict[str, _Held]) -> I64:
        """Return when the steps are, int64[T], strictly increasing: from the first moment at which every feature has a value."""
        ready = max((int(h.times[0]) for h in held.values()), default=None)
        if self.settings.control_hz:
            return self.grid(held, ready)
        times = self.clock(self.mapping.clock, self.got.ticks)
        unique = np.unique(times)
        if (twice := len(times) - len(unique)) > 0:
            self.notes.append(f"{twice} messages of {self.mapping.clock} repeat a time; they make one step each time")
        ticks = unique if ready is None else unique[unique >= ready]
        if len(ticks) < len(unique):
            self.notes.append(
                f"{len(unique) - len(ticks)} messages of {self.mapping.clock} come before every feature has a value"
            )
        if len(ticks) == 0:
            why = "it comes before every feature has a value" if len(unique) else "the episode has none"
            raise MalformedSourceError(
                f"{self.bag.uri}: no message of the clock topic {self.mapping.clock} can be a step: {why}",
                uri=self.bag.uri,
                episode=self.span.key,
            )
        return ticks

    def grid(self, held: dict[str, _Held], ready: int | None) -> I64:
        tracked = {c.camera.name: c.topic for c in self.mapping.cameras}
        clocks = [h.times for h in held.values()]
        clocks += [self.clock(tracked[n], s) for n, s in self.got.cameras.items() if s.items]
        first = max([ready or 0, min((int(c.min()) for c in clocks), default=self.span.start_ns)])
        last = max((int(c.max()) for c in clocks), default=self.span.stop_ns - 1)
        count = int((last - first) * self.settings.control_hz / SECOND + 1e-6) + 1 if last >= first else 1
        return first + np.round(np.arange(count) * (SECOND / self.settings.control_hz)).astype(np.int64)

    def held(self, mapped: FeatureMap) -> _Held:
        series = self.got.features[mapped.feature.name].in_log_order()
        if not series.items:
            raise MalformedSourceError(
                f"{self.bag.uri}: no message on {mapped.topic}, which fills {mapped.feature.name}",
                uri=self.bag.uri,
                episode=self.span.key,
            )
        times = self.clock(mapped.topic, series)
        values = self.joint_values(mapped, series) if mapped.joints else np.array([v for _, v in series.items], np.float64)
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        whole = _filled(values) if mapped.joints else values
        complete = np.flatnonzero(_known(values) if mapped.joints else np.ones(len(values), bool))
        if len(complete) == 0:
            never: Any = np.isnan(values).all(axis=0)
            missing = [n for n, gone in zip(mapped.joints, never, strict=True) if gone]
            raise MalformedSourceError(
                f"{self.bag.uri}: {mapped.topic} never tells {', '.join(missing)}, which {mapped.feature.name} needs",
                uri=self.bag.uri,
                episode=self.span.key,
            )
        first = int(complete[0])
        return _Held(times[first:], whole[first:])

    def joint_values(self, mapped: FeatureMap, series: Series) -> F64:
        """Return float64[n, joints] in the contract's order, NaN where a message does not tell a joint."""
        place = {name: i for i, name in enumerate(mapped.joints)}
        out, strangers = np.full((len(series.items), len(place)), np.nan), set[str]()
        for row, (names, values) in enumerate(series.items):
            for name, value in zip(names, values, strict=True):
                if name in place:
                    out[row, place[name]] = value
                else:
                    strangers.add(name)
        if strangers:
            self.notes.append(f"{mapped.topic} also tells {', '.join(sorted(strangers))}, which the contract does not list")
        return out

    def sample(self, name: str, held: _Held, ticks: I64) -> F64:
        """Return the value that holds at each step, float64[T, size]: that of the last message at or before it."""
        at = np.searchsorted(held.times, ticks, side="right") - 1
        age = ticks - held.times[at]
        period = float(np.median(np.diff(held.times))) if len(held.times) > 1 else 0.0
        if int(age.max()) > max(STALE * period, STALE_NS):
            self.notes.append(f"{name} is held for up to {int(age.max()) / SECOND:.3f} s: its topic paused or ended early")
        return held.values[at]

    def track(self, mapped: CameraMap, origin: int) -> TrackDraft | None:
        name = mapped.camera.name
        series = self.got.cameras[name].in_log_order()
        if not series.items:
            self.notes.append(f"camera {name} has no pictures: {mapped.topic} is silent")
            return None
        times = self.clock(mapped.topic, series)
        facts = self.got.facts[name]
        if facts.form == "video":
            return self.video(mapped, series, times, origin)
        order = np.argsort(times, kind="stable")
        packets = [series.items[i] for i in order.tolist()]
        return picture_track(
            name, packets, times[order] - origin, is_float=facts.is_float, uri=self.bag.uri, episode=self.span.key
        )

    def video(self, mapped: CameraMap, series: Series, times: I64, origin: int) -> TrackDraft | None:
        """Keep packets from the last keyframe at or before the episode's start; what comes before that cannot be decoded."""
        name, codec = mapped.camera.name, self.got.facts[mapped.camera.name].encoding
        inside = int(np.searchsorted(np.array(series.log_ns), self.span.start_ns, side="left"))
        keys = [i for i, data in enumerate(series.items) if is_key(codec, data)]
        if not keys:
            self.notes.append(f"camera {name} has no keyframe in {len(series.items)} {codec} packets, so none can be decoded")
            return None
        start = max((k for k in keys if k <= inside), default=keys[0])
        if start > inside:
            self.notes.append(f"camera {name}: {start - inside} {codec} packets before the first keyframe cannot be decoded")
        if inside >= len(series.items):
            self.notes.append(f"camera {name} has no pictures: {mapped.topic} is silent")
            return None
        return video_track(
            name,
            codec,
            series.items[start:],
            times[start:] - origin,
            max(inside - start, 0),
            uri=self.bag.uri,
            episode=self.span.key,
        )

    def streams(self, origin: int) -> Any:
        rows = list[tuple[str, I64, dict[str, Any]]]()
        for mapped in self.mapping.streams:
            series = self.got.streams[mapped.stream.name].in_log_order()
            if not series.items:
                continue
            times = self.clock(mapped.topic, series)
            order = np.argsort(times, kind="stable").tolist()
            if out_of_order := int((np.diff(times) < 0).sum()):
                self.notes.append(f"{out_of_order} times of {mapped.topic} go back; its stream is sorted by time")
            values, texts = ([series.items[i][part] for i in order] for part in (0, 1))
            columns: dict[str, Any] = {"values": values} if any(v is not None for v in values) else {}
            columns |= {"text": texts} if any(t is not None for t in texts) else {}
            rows.append((mapped.stream.name, times[order] - origin, columns))
        return build_streams(rows) if rows else None

    def language(self, ticks: I64) -> list[str | None] | str | None:
        default = self.span.task or self.settings.task or None
        series = self.got.language.in_log_order()
        if not series.items:
            return default
        times = self.clock(self.mapping.language, series)
        order = np.argsort(times, kind="stable")
        at = np.searchsorted(times[order], ticks, side="right") - 1
        return [series.items[order[i]] or None if i >= 0 else default for i in at.tolist()]

    def clock(self, topic: str, series: Series) -> I64:
        times, is_stamp = times_of(series, self.settings.time)
        self.clocks[topic] = "header" if is_stamp else "log"
        if not is_stamp and self.settings.time != "log" and any(series.stamp_ns):
            note = f"{topic} has header stamps that are not on the recorder's clock, or not everywhere; its log times are used"
            self.notes += [] if note in self.notes else [note]
        return times

    def attributes(self, origin: int) -> dict[str, Any]:
        infos = self.got.infos
        for mapped in self.mapping.cameras:
            seen = infos.get(mapped.camera.name, [])
            if len(seen) > 1:
                self.notes.append(f"the calibration of camera {mapped.camera.name} changes {len(seen) - 1} times in the episode")
            if seen and with_intrinsics(mapped.camera, seen[0]) != mapped.camera:
                self.notes.append(
                    f"camera {mapped.camera.name} is not calibrated as the contract says; see attributes.intrinsics"
                )
        intrinsics = {n: with_intrinsics(self.camera(n), seen[0]).intrinsics for n, seen in infos.items() if seen}
        encodings = {n: f.encoding for n, f in self.got.facts.items()}
        return {
            "bag": self.bag.bag.name, "origin_ns": origin, "start_ns": self.span.start_ns, "stop_ns": self.span.stop_ns,
            "clock": f"{self.settings.control_hz:g} Hz" if self.settings.control_hz else self.mapping.clock,
            "times": dict(sorted(self.clocks.items())), "encodings": encodings, "intrinsics": intrinsics,
        }  # fmt: skip

    def camera(self, name: str) -> Any:
        return next(c.camera for c in self.mapping.cameras if c.camera.name == name)


def _known(values: F64) -> npt.NDArray[np.bool_]:
    """Tell per row whether every column has had a value by then, bool[n]."""
    told: Any = np.logical_or.accumulate(~np.isnan(values), axis=0)
    return told.all(axis=1)


def _filled(values: F64) -> F64:
    """Return values with every NaN replaced by the last number above it."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    latest = np.maximum.accumulate(rows, axis=0)
    return np.where(latest >= 0, np.take_along_axis(values, np.maximum(latest, 0), axis=0), np.nan)


def _seen(track: TrackDraft, times: I64) -> I32:
    """Return per step the last frame shown at or before it, int32[T], -1 for none."""
    at = np.searchsorted(track.times_ns(), times, side="right") - 1
    return np.where(at >= 0, at, NO_FRAME).astype(np.int32)
