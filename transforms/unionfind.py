"""Connected components of a graph given by its edges."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


def components(count: int, edges: Iterable[tuple[int, int]]) -> I64:
    """Return for each of `count` nodes the smallest node it is connected with, int64[count]; independent of the order of `edges`."""
    parent = list(range(count))
    for a, b in edges:
        x, y = _root(parent, a), _root(parent, b)
        if x != y:
            parent[max(x, y)] = min(x, y)
    return np.array([_root(parent, i) for i in range(count)], np.int64)


def shared_keys(keys: Sequence[Iterable[str]]) -> I64:
    """Return the component of each item, int64[n], where two items that share any key are connected."""
    first: dict[str, int] = {}
    edges = ((i, first.setdefault(k, i)) for i, mine in enumerate(keys) for k in mine)
    return components(len(keys), edges)


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node
