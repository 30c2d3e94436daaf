"""One episode's messages, decoded and sorted into what they become: packets, joint values, numbers, texts; each with its two times."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.shards.draft import I64
from pipelines.sources.bag.decoders import decoder_for
from pipelines.sources.bag.images import Facts, facts_of, packet_maker
from pipelines.sources.bag.mapping import FeatureMap, Mapping, StreamMap
from pipelines.sources.bag.message import SECOND, find, frame_of, get, leaves, numbers, parts, stamp_ns
from pipelines.sources.bag.open_bag import OpenBag
from pipelines.sources.bag.readers import Raw, damage_errors
from pipelines.sources.bag.settings import BagSettings
from pipelines.sources.bag.split import Span
from pipelines.sources.bag.survey import JOINT_PARTS
from schemas.errors import CorruptMediaError, DataError, LengthMismatchError

SANE_NS = 60 * SECOND  # a header stamp further from the log's clock than this is on another clock


F64 = npt.NDArray[np.float64]


@dataclass(slots=True)
class Series:
    """What one topic brought, in the order of the log. `items` are packets, (names, values) pairs, (values, text) pairs or texts."""

    log_ns: list[int] = field(default_factory=list[int])
    stamp_ns: list[int] = field(default_factory=list[int])
    items: list[Any] = field(default_factory=list[Any])

    def add(self, log_ns: int, stamp: int, item: Any) -> None:
        """Append one item."""
        self.log_ns.append(log_ns)
        self.stamp_ns.append(stamp)
        self.items.append(item)

    def in_log_order(self) -> "Series":
        """Return the series sorted by log time; bags may store chunks in any order."""
        order = np.argsort(np.array(self.log_ns, np.int64), kind="stable").tolist()
        return Series([self.log_ns[i] for i in order], [self.stamp_ns[i] for i in order], [self.items[i] for i in order])


@dataclass(slots=True)
class Collected:
    """Everything an episode is made of. `early` counts, per topic, the messages from before its start (for what still holds then)."""

    cameras: dict[str, Series] = field(default_factory=dict[str, Series])
    facts: dict[str, Facts] = field(default_factory=dict[str, Facts])
    features: dict[str, Series] = field(default_factory=dict[str, Series])
    streams: dict[str, Series] = field(default_factory=dict[str, Series])
    language: Series = field(default_factory=Series)
    ticks: Series = field(default_factory=Series)
    infos: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    unread: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    notes: list[str] = field(default_factory=list[str])


def collect(bag: OpenBag, span: Span, mapping: Mapping, settings: BagSettings) -> Collected:
    """Read one episode.

    Raises:
        CorruptMediaError: a part of it cannot be read, and `damaged` is not `skip`.
    """
    collector = _Collector(bag, span, mapping, settings)
    try:
        return collector.run()
    finally:
        collector.handlers.clear()  # they hold the collector: without this an episode stays until the garbage collector comes by


class _Collector:
    def __init__(self, bag: OpenBag, span: Span, mapping: Mapping, settings: BagSettings) -> None:
        self.bag, self.span, self.mapping, self.settings = bag, span, mapping, settings
        self.out = Collected()
        self.handlers: dict[str, list[Callable[[Raw, Any, int], None]]] = {}
        for camera in mapping.cameras:
            self.on(camera.topic, self.camera(camera.camera.name))
            if camera.info:
                self.on(camera.info, self.info(camera.camera.name))
        for feature in mapping.features:
            self.on(feature.topic, self.feature(feature))
        for stream in mapping.streams:
            self.on(stream.topic, self.stream(stream))
        if mapping.language:
            self.on(mapping.language, lambda raw, m, at: self.out.language.add(raw.log_ns, at, str(find(m, "data") or "")))
        if not settings.control_hz:
            self.on(mapping.clock, lambda raw, _, at: self.out.ticks.add(raw.log_ns, at, None) if self.is_inside(raw) else None)

    def on(self, topic: str, handler: Callable[[Raw, Any, int], None]) -> None:
        self.handlers.setdefault(topic, []).append(handler)

    def run(self) -> Collected:
        damage = list[str]() if self.settings.damaged == "skip" else None
        held = {f.topic for f in self.mapping.features} | {self.mapping.language} - {""}
        held |= {c.topic for c in self.mapping.cameras if c.facts.form == "video"} | {
            c.info for c in self.mapping.cameras if c.info
        }
        early = self.span.start_ns - round(self.settings.lookback_s * SECOND)
        if self.span.start_ns > self.bag.start_ns and held:
            for raw in self.bag.messages(frozenset(held), max(early, 0), self.span.start_ns, damage):
                self.take(raw)
        for raw in self.bag.messages(self.mapping.topics, self.span.start_ns, self.span.stop_ns, damage):
            self.take(raw)
        self.out.notes += [f"damaged and skipped: {d}" for d in dict.fromkeys(damage or ())]
        for topic, why in self.out.unread.items():
            self.out.notes.append(f"{len(why)} messages of {topic} cannot be read and are left out: {why[0]}")
        return self.out

    def take(self, raw: Raw) -> None:
        try:
            message = decoder_for(raw.channel).decode(raw.data)
            at = stamp_ns(message)
            for handler in self.handlers.get(raw.channel.topic, ()):
                handler(raw, message, at)
        except LengthMismatchError:
            raise
        except (DataError, *damage_errors()) as error:
            self.out.unread.setdefault(raw.channel.topic, []).append(str(error) or type(error).__name__)

    def is_inside(self, raw: Raw) -> bool:
        return raw.log_ns >= self.span.start_ns

    def camera(self, name: str) -> Callable[[Raw, Any, int], None]:
        series = self.out.cameras.setdefault(name, Series())
        make: list[Callable[[Any], bytes]] = []

        def handle(raw: Raw, message: Any, at: int) -> None:
            if not make:
                facts = facts_of(raw.channel.type, message)
                self.out.facts[name] = facts
                make.append(packet_maker(facts))
            if self.is_inside(raw) or self.out.facts[name].form == "video":
                series.add(raw.log_ns, at, make[0](message))

        return handle

    def info(self, name: str) -> Callable[[Raw, Any, int], None]:
        seen = self.out.infos.setdefault(name, [])

        def handle(_raw: Raw, message: Any, _at: int) -> None:
            if not seen or _calibration(seen[-1]) != _calibration(message):
                seen.append(message)

        return handle

    def feature(self, mapped: FeatureMap) -> Callable[[Raw, Any, int], None]:
        series = self.out.features.setdefault(mapped.feature.name, Series())

        def handle(raw: Raw, message: Any, at: int) -> None:
            if mapped.joints:
                names, values = [str(n) for n in get(message, "name")], [float(v) for v in get(message, mapped.fields[0])]
                if len(names) != len(values):
                    raise CorruptMediaError(f"it names {len(names)} joints and has {len(values)} {mapped.fields[0]} values")
                series.add(raw.log_ns, at, (names, values))
                return
            values = numbers(message, mapped.fields)[1]
            if len(values) != mapped.feature.size:
                raise LengthMismatchError(
                    f"{self.bag.uri}: a message of {mapped.topic} at {(raw.log_ns - self.bag.start_ns) / SECOND:.3f} s has {len(values)} "
                    f"values in {', '.join(mapped.fields)}, not {mapped.feature.size}",
                    uri=self.bag.uri,
                    episode=self.span.key,
                )
            series.add(raw.log_ns, at, (None, values))

        return handle

    def stream(self, mapped: StreamMap) -> Callable[[Raw, Any, int], None]:
        series = self.out.streams.setdefault(mapped.stream.name, Series())

        def handle(raw: Raw, message: Any, at: int) -> None:
            if not self.is_inside(raw):
                return
            if mapped.form == "tf":
                for _, transform in parts(get(message, "transforms")):
                    series.add(raw.log_ns, stamp_ns(transform) or at, _transform(transform))
            else:
                series.add(raw.log_ns, at, _values(message, mapped))

        return handle


def times_of(series: Series, how: str) -> tuple[I64, bool]:
    """Return the times of a series in ns, int64[n], and whether they are its header stamps.

    `auto` takes stamps where every message has one and their median lies within a minute of the log's clock.
    """
    log, stamps = np.array(series.log_ns, np.int64), np.array(series.stamp_ns, np.int64)
    if how == "log" or len(log) == 0 or not bool((stamps != 0).all()):
        return log, False
    if how == "auto" and abs(float(np.median(stamps - log))) > SANE_NS:
        return log, False
    return stamps, True


def _values(message: Any, mapped: StreamMap) -> tuple[F64 | None, str | None]:
    flat = leaves(message)
    if find(message, "name") is not None and mapped.stream.names and mapped.stream.names[0].startswith(JOINT_PARTS):
        return _joint_values(message, mapped)
    texts = flat.texts
    if not texts:
        return np.array(flat.values), None
    text = next(iter(texts.values())) if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)
    return (np.array(flat.values) if flat.values else None), text


def _joint_values(message: Any, mapped: StreamMap) -> tuple[F64, str | None]:
    """Return a JointState's values; its names too, where they are not the ones the contract lists."""
    names = [str(n) for n in get(message, "name")]
    given = {p: [float(v) for v in find(message, p)] for p in JOINT_PARTS if find(message, p) is not None}
    listed = [f"{part}.{joint}" for part, values in given.items() if len(values) for joint in names]
    values = [v for part in given.values() for v in part]
    return np.array(values), None if tuple(listed) == mapped.stream.names else json.dumps(names, ensure_ascii=False)


def _transform(message: Any) -> tuple[F64, str]:
    fields = ("transform.translation.x", "transform.translation.y", "transform.translation.z")
    turns = ("transform.rotation.x", "transform.rotation.y", "transform.rotation.z", "transform.rotation.w")
    values = [float(get(message, f)) for f in (*fields, *turns)]
    return np.array(values), f"{frame_of(message) or ''} -> {find(message, 'child_frame_id') or ''}"


def _calibration(info: Any) -> list[float]:
    found = (find(info, n) for names in (("k", "K"), ("d", "D")) for n in names)
    return [float(v) for values in found if values is not None for v in values]
