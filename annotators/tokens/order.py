"""Is there order in a stream of tokens? Unigram entropy, and how often a back-off n-gram model guesses the next one."""

from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from transforms.codec.base import F64, I64, U16, Tokens

LONGEST = 60_000  # tokens a model is fitted on and tried on at most; whole chunks


def entropy(ids: U16) -> float:
    """Return the unigram entropy of token ids, bits per token."""
    counts = np.bincount(ids)
    share = counts[counts > 0] / max(len(ids), 1)
    return float(-(share * np.log2(share)).sum()) + 0.0


def accuracies(tokens: Tokens, part: I64, order: int = 5) -> tuple[F64, F64]:
    """Return the hits and the guesses of each chunk, float64[N] both.

    The model of a chunk is fitted on the chunks of all other parts: the most frequent successor of the longest context it knows, of
    at most `order - 1` tokens; smaller ids win ties.

    Args:
        tokens: of N chunks.
        part: int64[N]; chunks of one part (episodes that belong together) are held out together.
        order: n of the n-gram; 1 always guesses the most frequent token.
    """
    rows = [tokens[i].tolist() for i in range(len(tokens))]
    use = _sample(tokens)
    hits, total = np.zeros(len(rows)), np.zeros(len(rows))
    for fold in np.unique(part):
        best = _fit([rows[i] for i in np.flatnonzero(use & (part != fold))], order)
        for i in np.flatnonzero(use & (part == fold)):
            row = rows[i]
            total[i] = len(row)
            hits[i] = sum(_guess(best, row, at, order) == row[at] for at in range(len(row)))
    return hits, total


def _sample(tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Choose chunks, evenly, until the tokens are few enough."""
    every = max(1, -(-len(tokens.ids) // LONGEST))
    use = np.zeros(len(tokens), np.bool_)
    use[::every] = True
    return use


def _fit(rows: list[list[int]], order: int) -> dict[tuple[int, ...], int]:
    seen: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for row in rows:
        for at, token in enumerate(row):
            for length in range(min(order - 1, at) + 1):
                seen[tuple(row[at - length : at])][token] += 1
    return {context: min(counts, key=lambda t: (-counts[t], t)) for context, counts in seen.items()}


def _guess(best: dict[tuple[int, ...], int], row: list[int], at: int, order: int) -> int:
    for length in range(min(order - 1, at), -1, -1):
        found = best.get(tuple(row[at - length : at]))
        if found is not None:
            return found
    return -1
