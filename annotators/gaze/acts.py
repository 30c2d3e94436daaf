"""What is done with which thing, when: from segments where something measured moves, else from the texts people gave their actions."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.source import find_source
from annotators.segments.config import SegmentsConfig
from annotators.segments.segments import Segments
from annotators.spans import episodes_of
from schemas.contract import Contract
from transforms.grid import changes, runs

SEGMENTS = Segments(SegmentsConfig(motions=False))
TOUCHING = ("grasp", "transport", "place", "release", "push", "rotate")


@dataclass(frozen=True, slots=True)
class Act:
    """One act.

    Attributes:
        start_ns: when it begins.
        end_ns: when it ends.
        verb: what is done.
        words: what it is done with, as a set of words; of a text, all of it.
        touches: whether the thing is in hand, or pushed.
    """

    start_ns: int
    end_ns: int
    verb: str
    words: frozenset[str]
    touches: bool

    def concerns(self, thing: str) -> bool:
        """Tell whether every word of a thing's name is said."""
        return bool(thing) and frozenset(thing.split()) <= self.words


def act_columns(contract: Contract) -> tuple[str, ...]:
    """Name what is read; texts are in every dataset's steps."""
    return SEGMENTS.requires(contract)


def act_streams(contract: Contract) -> tuple[str, ...]:
    """Name the signals that are read."""
    return SEGMENTS.needs(contract).streams


def acts_of(batch: Batch) -> list[list[Act]]:
    """Return the acts of every episode, in order."""
    return _from_segments(batch) if find_source(batch.contract) is not None else _from_texts(batch)


def _from_segments(batch: Batch) -> list[list[Act]]:
    rows = SEGMENTS.run(batch)
    found: list[list[Act]] = [[] for _ in batch.episodes]
    columns = (rows.column(c).to_pylist() for c in ("valid", "start_ns", "end_ns", "phase", "object"))
    for owner, valid, start, end, phase, thing in zip(episodes_of(rows, batch).tolist(), *columns, strict=True):
        if valid:
            found[owner].append(Act(start, end, phase, frozenset((thing or "").split()), phase in TOUCHING))
    return found


def _from_texts(batch: Batch) -> list[list[Act]]:
    if "language" not in batch.steps.column_names:
        return [[] for _ in batch.episodes]
    texts = batch.steps.column("language").cast(pa.string()).to_pylist()
    found: list[list[Act]] = []
    for a, b in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
        mine, acts = texts[a:b], list[Act]()
        first, length = runs(changes(np.array([t or "" for t in mine], object)))
        for at, count in zip(first.tolist(), length.tolist(), strict=True):
            words = (mine[at] or "").lower().replace(",", " ").split()
            if words:
                stop = a + at + count
                end = int(batch.t_ns[stop]) if stop < b else int(batch.t_ns[b - 1])
                acts.append(Act(int(batch.t_ns[a + at]), end, words[0], frozenset(words), touches=True))
        found.append(acts)
    return found
