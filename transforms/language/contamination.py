"""Texts of a test that training has seen: shared runs of words, shared names, and groups that may not be torn apart."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transforms.splits import held_out
from transforms.unionfind import shared_keys

Keys = Callable[[str], frozenset[str]]
LENGTH = 8  # words in a run
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)*")


@dataclass(frozen=True, slots=True)
class Contamination:
    """Which texts of a test share something with training: their places, and what, one example each."""

    places: tuple[int, ...]
    shared: tuple[str, ...]
    rate: float


def word_runs(text: str, length: int = LENGTH) -> frozenset[str]:
    """Return every run of `length` words, lower case, without punctuation; the whole of a shorter text."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(" ".join(words[i : i + length]) for i in range(max(len(words) - length + 1, min(len(words), 1))))


def names(text: str) -> frozenset[str]:
    """Return what looks like a name: runs of capitalised words that do not begin a sentence."""
    return frozenset(m.group() for m in _NAME.finditer(text))


def contamination(test: Sequence[str], train: Sequence[str], keys: Keys = word_runs) -> Contamination:
    """Return which texts of `test` share a key with any text of `train`."""
    seen = {k for text in train for k in keys(text)}
    both = [(at, min(shared)) for at, text in enumerate(test) if (shared := keys(text) & seen)]
    return Contamination(tuple(at for at, _ in both), tuple(k for _, k in both), len(both) / len(test) if test else 0.0)


def held_out_texts(texts: Sequence[str], share: float, keys: Keys = word_runs, salt: str = "") -> npt.NDArray[np.bool_]:
    """Choose about `share` of the groups of texts for testing, bool[n]; texts that share a key, through others too, stay together."""
    root = shared_keys([keys(t) or (t,) for t in texts])
    first: dict[int, str] = {}
    for text, group in zip(texts, root.tolist(), strict=True):
        first[group] = min(text, first.get(group, text))
    return held_out([first[g] for g in root.tolist()], share, salt)
