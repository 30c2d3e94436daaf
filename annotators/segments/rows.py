"""Segments as rows: the parts of every episode, their macro codes and words, laid out as the annotator's table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.segments.config import PHASES
from annotators.segments.phases import Named
from annotators.segments.words import Spoken
from annotators.spans import span_table
from transforms.grid import I64
from transforms.macros import Merges, compress, expand

if TYPE_CHECKING:
    from annotators.segments.segments import Segments

STYLE = "subtask"


@dataclass(frozen=True, slots=True)
class Part:
    """One row: steps `[first, stop)` of an episode, named, or with the reason why not."""

    first: int
    stop: int
    reason: str | None
    named: Named | None = None
    gain: float = np.inf
    cause: str = ""
    macro: int = 0
    place: int = 0  # in its macro code


def coded(parts: Sequence[Part], merges: Merges) -> list[Part]:
    """Give every part of an episode its macro code; a stretch that could not be read ends one."""
    result = list(parts)
    for labels, places in label_runs(parts):
        at = 0
        for code in compress(labels, merges, len(PHASES)):
            for step, _ in enumerate(expand([code], merges, len(PHASES))):
                result[places[at]] = replace(parts[places[at]], macro=code, place=step)
                at += 1
    return result


def label_runs(parts: Sequence[Part]) -> list[tuple[list[int], list[int]]]:
    """Return, for every run of valid parts, their labels and their places in `parts`."""
    found: list[tuple[list[int], list[int]]] = [([], [])]
    for at, part in enumerate(parts):
        if part.named is None:
            found.append(([], []))
        else:
            found[-1][0].append(PHASES.index(part.named.phase))
            found[-1][1].append(at)
    return [pair for pair in found if pair[0]]


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the rows lie in a batch: the episode of each (int64[S]), its first step and the step after its last."""

    episode: I64
    first: I64
    stop: I64


def spans_of(batch: Batch, parts: Sequence[Sequence[Part]]) -> Spans:
    """Return the spans of every episode's parts, one after the other."""
    episode = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    first = np.array([p.first for some in parts for p in some], np.int64)
    stop = np.array([p.stop for some in parts for p in some], np.int64)
    return Spans(episode, batch.starts[episode] + first, batch.starts[episode] + stop)


def as_table(
    annotator: "Segments", batch: Batch, flat: list[Part], spans: Spans, spoken: list[Spoken | None], source: str
) -> pa.Table:
    """Lay parts out as rows of the annotator's schema."""
    sure = pa.array([float(min(p.gain, 1.0)) if p.reason is None else None for p in flat], pa.float32())
    own = _own(flat, spoken, source)
    return span_table(annotator, batch, spans.first, spans.stop, [p.reason for p in flat], own, confidence=sure)


def _own(flat: list[Part], spoken: list[Spoken | None], source: str) -> dict[str, pa.Array]:
    """Build the annotator's own columns; null where a part is not valid."""
    named = [p.named for p in flat]
    return {
        "text": _words([s and s.text for s in spoken]),
        "style": _words([s and STYLE for s in spoken]),
        "label": pa.array([None if n is None else PHASES.index(n.phase) for n in named], pa.uint8()),
        "phase": _words([n and n.phase for n in named]),
        "object": _words([(n.thing or None) if n else None for n in named]),
        "who": _words([n and n.who for n in named]),
        "energies": pa.array([None if n is None else list(n.energies) for n in named], pa.list_(pa.float32())),
        "boundary_score": pa.array([p.gain if p.named is not None and np.isfinite(p.gain) else None for p in flat], pa.float32()),
        "termination": _words([p.cause if p.named is not None else None for p in flat]),
        "macro": pa.array([p.macro if p.named is not None else None for p in flat], pa.int32()),
        "macro_step": pa.array([p.place if p.named is not None else None for p in flat], pa.int16()),
        "task": _words([s and s.task for s in spoken]),
        "motions": pa.array([None if s is None else list(s.motions) for s in spoken], pa.list_(pa.string())),
        "motion_ngrams": pa.array([None if s is None else s.ngrams for s in spoken], pa.list_(pa.string())),
        "source": _words([source if n is not None else None for n in named]),
    }


def _words(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode()
