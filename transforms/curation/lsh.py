"""Which signatures might be near each other: equal bands, found by sorting. Memory is that of one band, whatever the number of episodes.

A hash table per band, as in `datasketch.MinHashLSH`, keeps every band of every episode as Python objects.
"""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
CROWD = 64  # members of a band: above, members are paired with a few of them instead of all with all
HUBS = 4


def equal_bands(signatures: npt.NDArray[np.integer], bands: int) -> I64:
    """Return the pairs (i < j), int64[P, 2], of rows of integer[N, S] that agree on all numbers of any of `bands` equal slices."""
    count, size = signatures.shape
    width = size // bands
    found: list[I64] = []
    for band in range(bands):
        part = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * width))).reshape(-1)
        found.append(equal_pairs(keys, count))
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.int64)


def equal_pairs(keys: npt.NDArray[np.void], count: int) -> I64:
    """Return pairs (i < j), int64[P, 2], of equal keys.

    A crowd of more than 64 is connected without pairing everyone: each with its neighbour and with the first four. Copies of copies
    are copies, so clusters stay what they are.
    """
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if count else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, count))
    pairs: list[I64] = []
    for size in np.unique(lengths[(lengths > 1) & (lengths <= CROWD)]).tolist():
        members = order[starts[lengths == size][:, None] + np.arange(size)]
        a, b = np.triu_indices(size, 1)
        pairs.append(np.stack([members[:, a].reshape(-1), members[:, b].reshape(-1)], 1))
    for start, size in zip(starts[lengths > CROWD], lengths[lengths > CROWD], strict=True):
        members = order[start : start + size]
        pairs.append(np.stack([members[:-1], members[1:]], 1))
        for hub in members[:HUBS].tolist():
            others = members[members != hub]
            pairs.append(np.stack([np.full(len(others), hub), others], 1))
    if not pairs:
        return np.zeros((0, 2), np.int64)
    joined = np.concatenate(pairs).astype(np.int64)
    return np.stack([joined.min(1), joined.max(1)], 1)
