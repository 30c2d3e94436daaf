"""The words around a segment: the task above it, the language motions inside it, and a user's own wording."""

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.language_motion import LanguageMotion
from annotators.segments.phases import Named
from annotators.spans import episodes_of
from schemas.errors import AnnotatorError
from schemas.registry import load_function
from transforms.grid import I64
from transforms.macros import ngrams

_SUMMARY = 3


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is said about one segment: the subtask, the task it belongs to (None where the episode says nothing), its motions."""

    text: str
    task: str | None
    motions: tuple[str, ...]

    @property
    def ngrams(self) -> list[str]:
        """The most frequent motions and sequences of motions, "move arm up > open gripper" for a sequence."""
        return [" > ".join(words) for words, _ in ngrams(self.motions)[:_SUMMARY]]


def motions_within(batch: Batch, first: I64, stop: I64) -> list[tuple[str, ...]]:
    """Return the language motions of the steps `[first, stop)` of the batch, each that fills at least a fifth of them, in order."""
    rows = LanguageMotion().run(batch)
    base = batch.starts[episodes_of(rows, batch)]
    begin, end = base + rows.column("start_step").to_numpy(), base + rows.column("end_step").to_numpy()
    text = rows.column("text").cast(pa.string()).to_pylist()
    low, high = np.searchsorted(end, first, side="right"), np.searchsorted(begin, stop, side="left")
    found: list[tuple[str, ...]] = []
    for at, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        least = 0.2 * (stop[at] - first[at])
        heard = [
            text[r] for r in range(a, b)
            if text[r] is not None and min(end[r], stop[at]) - max(begin[r], first[at]) >= least
        ]  # fmt: skip
        found.append(tuple(word for word, _ in groupby(heard)))
    return found


def tasks_of(batch: Batch, first: I64) -> list[str | None]:
    """Return what the steps say in their `language` column where each segment begins."""
    if "language" not in batch.steps.column_names:
        return [None] * len(first)
    return batch.steps.column("language").take(pa.array(first)).cast(pa.string()).to_pylist()


def reword(target: str, spoken: list[Spoken | None], named: list[Named | None], episode: I64) -> list[Spoken | None]:
    """Let the user's function `module:function` replace texts, episode by episode; segments stay what they are.

    Raises:
        AnnotatorError: it returned another number of texts, or something that is no text.
    """
    function = load_function(target, "wording")
    result = list(spoken)
    for at in np.unique(episode):
        places = [int(i) for i in np.flatnonzero(episode == at) if spoken[i] is not None]
        asked = [
            {"phase": n.phase, "object": n.thing, "who": n.who, "task": s.task, "text": s.text}
            for i in places if (s := spoken[i]) is not None and (n := named[i]) is not None
        ]  # fmt: skip
        texts = function(asked)
        if not isinstance(texts, list) or len(texts) != len(asked) or not all(isinstance(t, str) and t for t in texts):
            raise AnnotatorError(f"wording={target} must return a list of {len(asked)} texts, one per segment it was given")
        for i, text in zip(places, texts, strict=True):
            before = result[i]
            assert before is not None
            result[i] = replace(before, text=text)
    return result
