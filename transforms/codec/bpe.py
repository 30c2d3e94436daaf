"""Byte-pair merges over small integers, through the `tokenizers` library; a vocabulary is its tokens, spelt out, and its merges.

Symbols are integers `low` to `high`; token k < high - low + 1 is the symbol low + k. Nothing is clamped: what is outside the alphabet
is the caller's to escape.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from schemas.errors import UsageError
from schemas.ids import digest
from transforms.codec.base import I64

_FIRST = 0x100  # character of the lowest symbol; two bytes in UTF-8 up to 0x7FF
_LAST = 0xD000  # below the surrogates
MOST_SYMBOLS = _LAST - _FIRST


@dataclass(frozen=True)
class Vocabulary:
    """What byte-pair encoding needs.

    Attributes:
        low: smallest symbol.
        high: largest symbol.
        merges: pairs of token ids, in the order they are tried; a pair whose spelling exists already stands for that token.
    """

    low: int
    high: int
    merges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse alphabets that have no characters.

        Raises:
            UsageError: the alphabet is empty or too large, or a merge names a token that does not exist yet.
        """
        if not 2 <= self.symbols <= MOST_SYMBOLS:
            raise UsageError(
                f"an alphabet of {self.symbols} symbols ({self.low} to {self.high}); it must have 2 to {MOST_SYMBOLS}"
            )
        if not self.spellings:
            raise UsageError("a vocabulary without tokens")

    @property
    def symbols(self) -> int:
        """How many symbols there are."""
        return self.high - self.low + 1

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.spellings)

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """The characters of each token."""
        words = [chr(_FIRST + k) for k in range(self.symbols)]
        known = set(words)
        for a, b in self.merges:
            if not (0 <= a < len(words) and 0 <= b < len(words)):
                raise UsageError(f"the merge {(a, b)} names a token that does not exist yet; there are {len(words)}")
            word = words[a] + words[b]
            if word not in known:
                known.add(word)
                words.append(word)
        return tuple(words)

    def encode(self, text: str, bounds: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return the token ids of slices of `text`, which `spell` made."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are processes here; its threads would fight them
        return [e.ids for e in self._tokenizer.encode_batch_fast([text[a:b] for a, b in bounds])]

    def spell(self, symbols: I64) -> str:
        """Return one character per symbol; all of them must be inside the alphabet."""
        return (symbols - self.low + _FIRST).astype("<u4").tobytes().decode("utf-32-le")

    def expand(self, ids: Iterable[int]) -> I64:
        """Return the symbols of token ids below `size`."""
        text = "".join(self.spellings[i] for i in ids)
        return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64) - _FIRST + self.low

    def fingerprint(self) -> str:
        """Identify the vocabulary."""
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"low": self.low, "high": self.high, "merges": [list(m) for m in self.merges]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(int(raw["low"]), int(raw["high"]), tuple((int(a), int(b)) for a, b in raw["merges"]))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the library's object behind: it is rebuilt where it is needed."""
        return {k: v for k, v in self.__dict__.items() if k != "_tokenizer"}

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer, models

        words = self.spellings
        return Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [(words[a], words[b]) for a, b in self.merges]))


def train(rows: Sequence[I64], low: int, high: int, size: int, min_frequency: int = 2) -> Vocabulary:
    """Learn a vocabulary of at most `size` tokens from rows of symbols in [low, high].

    Raises:
        UsageError: `size` does not even hold the alphabet.
    """
    from tokenizers import Tokenizer, models, trainers

    plain = Vocabulary(low, high)
    if size < plain.symbols:
        raise UsageError(
            f"a vocabulary of {size} tokens cannot hold an alphabet of {plain.symbols}; ask for more, or a smaller scale"
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer: Any = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=min_frequency, show_progress=False, initial_alphabet=list(plain.spellings), max_token_length=None
    )  # fmt: skip
    tokenizer.train_from_iterator([plain.spell(row) for row in rows if len(row)], trainer)
    return Vocabulary(low, high, _merges(plain, tokenizer))


def _merges(plain: Vocabulary, tokenizer: Any) -> tuple[tuple[int, int], ...]:
    """Read the library's merges back, with ids as this module counts them."""
    import json

    ids = {word: i for i, word in enumerate(plain.spellings)}
    merges: list[tuple[int, int]] = []
    for entry in json.loads(tokenizer.to_str())["model"]["merges"]:
        a, b = entry if isinstance(entry, list) else entry.split(" ")
        merges.append((ids[a], ids[b]))
        ids.setdefault(a + b, len(ids))
    return tuple(merges)
