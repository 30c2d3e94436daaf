"""Which two moments of an episode may show one change: around segments, around what a hand came to do, under a caption, on the way to a goal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from annotators.triplets.config import TripletsConfig
from annotators.triplets.words import refused
from transforms.grid import I64

ACTS = ("place", "transport", "push", "rotate", "release", "grasp")  # what names an event, best first
_TEXT = {"place": "move the {}", "transport": "move the {}", "release": "release the {}"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two moments of one episode.

    Attributes:
        kind: one of `annotators.triplets.config.CANDIDATES`.
        source_s: seconds after the first step; the last picture up to then is the source.
        target_s: the first picture from then on is the target.
        prompt: what happens in between; None where nobody says.
        phase: of the segment.
        thing: what it is about; empty where unknown.
        reason: why it needs no look.
    """

    kind: str
    source_s: float
    target_s: float
    prompt: str | None
    phase: str = ""
    thing: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A named segment: seconds after the first step, half-open."""

    start_s: float
    stop_s: float
    phase: str
    thing: str
    text: str


def segments_of(rows: Sequence[dict[str, Any]], first_ns: int) -> list[list[Segment]]:
    """Return the valid segments of one episode as runs: a stretch that could not be read ends one."""
    found: list[list[Segment]] = [[]]
    for row in rows:
        if not row["valid"]:
            found.append([])
            continue
        start, stop = ((row[k] - first_ns) * 1e-9 for k in ("start_ns", "end_ns"))
        found[-1].append(Segment(start, stop, row["phase"], row["object"] or "", row["text"]))
    return [run for run in found if run]


def find_candidates(
    runs: list[list[Segment]], captions: Sequence[str | None], seconds: I64 | np.ndarray[Any, Any], config: TripletsConfig
) -> list[Candidate]:
    """Return the candidates of one episode, by source.

    Args:
        runs: its segments.
        captions: what each step says.
        seconds: of each step after the first, float64[T].
        config: which kinds, and how far apart.
    """
    found: list[Candidate] = []
    if "segment" in config.candidates:
        found += [_around(s, config) for run in runs for s in run if s.phase != "idle"]
    if "event" in config.candidates:
        found += [e for run in runs for e in _events(run, config)]
    if "clip" in config.candidates:
        found += _clips(captions, seconds)
    kept = {(c.kind == "goal", round(c.source_s, 3), round(c.target_s, 3)): c for c in reversed(found)}  # segments before events
    if "goal" in config.candidates:
        kept |= {(True, c.source_s, c.target_s): c for c in _goals(captions, seconds, config)}
    return sorted(kept.values(), key=lambda c: (c.source_s, c.target_s, c.kind))


def _around(s: Segment, config: TripletsConfig) -> Candidate:
    return Candidate("segment", s.start_s, s.stop_s + config.settle_s, s.text, s.phase, s.thing)


def _events(run: list[Segment], config: TripletsConfig) -> Iterator[Candidate]:
    """Yield, for every stretch of touching, from before the hand set out to after it left."""
    at = 0
    for touching, group in groupby(run, key=lambda s: s.phase in ACTS):
        inside = list(group)
        first, at = at, at + len(inside)
        if not touching:
            continue
        main = min(inside, key=lambda s: ACTS.index(s.phase))
        before = run[first - 1] if first and run[first - 1].phase == "reach" else inside[0]
        after = run[at] if at < len(run) and run[at].phase in ("retract", "idle") else inside[-1]
        text = _TEXT[main.phase].format(main.thing) if main.thing and main.phase in _TEXT else main.text
        yield Candidate("event", before.start_s, after.stop_s + config.settle_s, text, main.phase, main.thing)


def _clips(captions: Sequence[str | None], seconds: Any) -> Iterator[Candidate]:
    """Yield the first and the last step under every caption."""
    first = 0
    for caption, group in groupby(captions):
        last = first + len(list(group)) - 1
        if caption and last > first:
            word = refused(caption)
            yield Candidate(
                "clip", float(seconds[first]), float(seconds[last]), caption, reason="caption_refused" if word else None
            )
        first = last + 1


def _goals(captions: Sequence[str | None], seconds: Any, config: TripletsConfig) -> Iterator[Candidate]:
    """Yield starts with goals ever further off; the caption belongs to the last one, which reaches the end."""
    end = float(seconds[-1])
    caption = captions[-1] or None
    for n in range(int(end / config.goal_every_s) + 1):
        start, ahead = n * config.goal_every_s, config.goal_first_s
        while start + ahead < end - 1e-6:
            yield Candidate("goal", start, start + ahead, None)
            ahead *= 2
        if start < end - 1e-6:
            yield Candidate("goal", start, end, caption)
