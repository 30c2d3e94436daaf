"""Macro codes: sequences of labels, shortened by naming the pairs that occur often, while that shortens the description as a whole.

Byte-pair merges judged by description length in bits: what the codebook costs plus what the codes cost at their empirical entropy.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log2

type Merges = tuple[tuple[int, int], ...]


def learn(sequences: Iterable[Sequence[int]], alphabet: int, most: int = 256) -> Merges:
    """Find the merges that shorten the description, greedily, the most frequent pair first (the smaller pair on ties).

    Args:
        sequences: labels in `0 .. alphabet - 1`.
        alphabet: number of plain labels; merge i becomes the code `alphabet + i`.
        most: at most this many merges.
    """
    now, merges = [list(s) for s in sequences], list[tuple[int, int]]()
    length = description_bits(now, (), alphabet)
    while len(merges) < most:
        pairs = Counter(p for s in now for p in pairwise(s))
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        then = [_merge(s, best, alphabet + len(merges)) for s in now]
        shorter = description_bits(then, (*merges, best), alphabet)
        if shorter >= length:
            break
        now, length = then, shorter
        merges.append(best)
    return tuple(merges)


def compress(labels: Sequence[int], merges: Merges, alphabet: int) -> list[int]:
    """Apply merges in order; `expand` is the exact inverse."""
    now = list(labels)
    for at, pair in enumerate(merges):
        now = _merge(now, pair, alphabet + at)
    return now


def expand(codes: Iterable[int], merges: Merges, alphabet: int) -> list[int]:
    """Return the labels a sequence of codes stands for."""
    plain: list[int] = []
    todo = list(codes)[::-1]
    while todo:
        code = todo.pop()
        if code < alphabet:
            plain.append(code)
        else:
            left, right = merges[code - alphabet]
            todo += (right, left)
    return plain


def description_bits(sequences: Sequence[Sequence[int]], merges: Merges, alphabet: int) -> float:
    """Bits to write down the codebook (two codes a merge) and then the codes at their empirical entropy."""
    counts = Counter(c for s in sequences for c in s)
    total = sum(counts.values())
    codes = -sum(n * log2(n / total) for n in counts.values())
    return codes + sum(2 * log2(alphabet + at) for at in range(len(merges)))


def ngrams(words: Sequence[str], longest: int = 3) -> list[tuple[tuple[str, ...], int]]:
    """Count the runs of up to `longest` words, the most frequent and then the longest first; single words only where nothing repeats."""
    found = Counter(tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))
    return sorted(found.items(), key=lambda item: (-item[1], -len(item[0]), item[0]))


def _merge(labels: Sequence[int], pair: tuple[int, int], code: int) -> list[int]:
    merged, at = list[int](), 0
    while at < len(labels):
        if at + 1 < len(labels) and (labels[at], labels[at + 1]) == pair:
            merged.append(code)
            at += 2
        else:
            merged.append(labels[at])
            at += 1
    return merged
