"""How evenly a selection covers what there is: entropies of shares, and whether one scene is seen with more than one instruction."""

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def entropy(counts: npt.ArrayLike) -> float:
    """Return the Shannon entropy in nats of unnormalised counts; 0 of nothing."""
    share = np.asarray(counts, np.float64)
    total = share.sum()
    if total <= 0:
        return 0.0
    share = share[share > 0] / total
    return float(-(share * np.log(share)).sum())


def instructions_nearby(embedding: F64, instruction: I64, neighbours: int = 20) -> float:
    """Return the share of samples among whose nearest neighbours, themselves included, at least two instructions occur.

    Args:
        embedding: float64[N, D], what is seen.
        instruction: int64[N], class of the text.
        neighbours: size of a neighbourhood; capped at N.
    """
    from sklearn.neighbors import NearestNeighbors

    size = min(neighbours, len(embedding))
    if size < 2:
        return 0.0
    near = NearestNeighbors(n_neighbors=size).fit(embedding).kneighbors(embedding, return_distance=False)
    classes = instruction[near]
    return float((classes != classes[:, :1]).any(axis=1).mean())
