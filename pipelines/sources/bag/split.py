"""Where the episodes of a bag begin and end, from its index and, where asked, the messages of a marker topic."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.sources.bag.decoders import decoder_for
from pipelines.sources.bag.message import SECOND, find
from pipelines.sources.bag.open_bag import OpenBag
from pipelines.sources.bag.readers import readable
from pipelines.sources.bag.settings import BagSettings
from schemas.errors import MalformedSourceError

ENDS = frozenset({"false", "stop", "end", "done", "0"})
BEGINS = frozenset({"true", "start", "begin", "1", ""})


@dataclass(frozen=True, slots=True)
class Span:
    """One episode of a bag: what was logged in `[start_ns, stop_ns)`. `task` is the marker's text, where it has one."""

    key: str
    start_ns: int
    stop_ns: int
    task: str = ""


def split_bag(bag: OpenBag, settings: BagSettings, clock: str) -> tuple[list[Span], list[str]]:
    """Return the episodes of a bag and what has to be said about the rest of it.

    Raises:
        MalformedSourceError: the marker topic is not there, or marks nothing.
        CorruptMediaError: its messages cannot be read.
    """
    whole = Span(bag.bag.name, bag.start_ns, bag.stop_ns)
    notes = list[str]()
    spans = [whole]
    if settings.marker:
        spans = list(_marked(bag, settings.marker, whole))
        if (left := spans[0].start_ns - whole.start_ns) > 0:
            notes.append(f"the {left / SECOND:.3f} s before the first message of {settings.marker} belong to no episode")
    elif settings.gap_s:
        spans = list(_gapped(bag, clock, round(settings.gap_s * SECOND), whole))
    if settings.max_episode_s:
        spans = [piece for span in spans for piece in _cut(span, round(settings.max_episode_s * SECOND))]
    if len(spans) > 1:
        spans = [replace(span, key=f"{whole.key}#{i}") for i, span in enumerate(spans)]
    return spans, notes


def _marked(bag: OpenBag, marker: str, whole: Span) -> Iterator[Span]:
    begun: tuple[int, str] | None = None
    marks = sorted(_marks(bag, marker), key=lambda m: m[0])
    if not any(begins for _, begins, _ in marks):
        raise MalformedSourceError(f"{bag.uri} has no message on the marker topic {marker!r} that begins an episode", uri=bag.uri)
    for at, begins, task in marks:
        if begun is not None:
            yield Span("", begun[0], at, begun[1])
        begun = (at, task) if begins else None
    if begun is not None:
        yield Span("", begun[0], whole.stop_ns, begun[1])


def _marks(bag: OpenBag, marker: str) -> Iterator[tuple[int, bool, str]]:
    for raw in bag.messages(frozenset({marker})):
        with readable(bag.uri):
            message: Any = decoder_for(raw.channel).decode(raw.data)
        value = find(message, "data")
        word = str(value).strip() if isinstance(value, str | bool | int) else ""
        begins = word.lower() not in ENDS
        yield raw.log_ns, begins, word if begins and isinstance(value, str) and word.lower() not in BEGINS else ""


def _gapped(bag: OpenBag, clock: str, gap_ns: int, whole: Span) -> Iterator[Span]:
    times = bag.log_times(clock)
    if len(times) == 0:
        yield whole
        return
    begins = np.concatenate([[0], np.flatnonzero(np.diff(times) > gap_ns) + 1]).tolist()
    for at, first in enumerate(begins):
        start = whole.start_ns if at == 0 else int(times[first])
        # What comes within a pause still belongs to the episode before it.
        stop = int(times[begins[at + 1]]) if at + 1 < len(begins) else whole.stop_ns
        yield Span("", start, stop)


def _cut(span: Span, most_ns: int) -> Iterator[Span]:
    for start in range(span.start_ns, max(span.stop_ns, span.start_ns + 1), max(most_ns, 1)):
        yield replace(span, start_ns=start, stop_ns=min(start + most_ns, span.stop_ns))
