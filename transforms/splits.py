"""Held-out groups by hash: all of a group or none of it. Two ways: by a threshold for each group alone, or dealt out to given shares."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from blake3 import blake3

_RANGE = 1 << 64


def held_out(groups: Sequence[str], share: float, salt: str = "") -> npt.NDArray[np.bool_]:
    """Tell for each entry, bool[n], whether its group belongs to the validation split.

    A group is held out when the first 64 bits of BLAKE3(salt, group) fall below `share`: about that share of the groups, not of
    the episodes. Depends on nothing but the group, the salt and the share; a larger share holds out a superset.
    """
    limit = int(share * _RANGE)
    prefix = blake3(f"{len(salt)}:{salt}".encode())
    decided: dict[str, bool] = {}
    for group in groups:
        if group not in decided:
            hasher = prefix.copy()
            hasher.update(group.encode())
            decided[group] = int.from_bytes(hasher.digest(8), "little") < limit
    return np.fromiter((decided[g] for g in groups), np.bool_, len(groups))


def draws(groups: Sequence[Sequence[str]], salt: str = "") -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) per group of ids, float64[n]: the smallest hash of any of its ids.

    New members can only lower it, so a group keeps its place among the others unless it grows or merges.
    """
    prefix = blake3(f"{len(salt)}:{salt}".encode())
    found = np.empty(len(groups))
    for i, ids in enumerate(groups):
        hashes: list[int] = []
        for name in ids:
            hasher = prefix.copy()
            hasher.update(name.encode())
            hashes.append(int.from_bytes(hasher.digest(8), "little"))
        found[i] = min(hashes) / _RANGE
    return found


def deal(
    sizes: Sequence[int],
    order: npt.NDArray[np.float64],
    shares: Mapping[str, float],
    fixed: Mapping[int, str],
    rest: str = "train",
) -> list[str]:
    """Deal groups of episodes out to splits.

    Groups come in the order of `order`; each goes to the first split of `shares` that still has room for all of it, else to `rest`.
    So a group larger than a share never lands in that split, and shares are as near as whole groups allow.

    Args:
        sizes: episodes per group.
        order: float64[n], see `draws`.
        shares: share of all episodes per split.
        fixed: groups that were dealt out before, and where; they keep their places and count.
        rest: the split of everything else.
    """
    total = sum(sizes)
    room = {name: round(share * total) for name, share in shares.items()}
    found = [fixed.get(i, "") for i in range(len(sizes))]
    for i, name in fixed.items():
        if name in room:
            room[name] -= sizes[i]
    for i in np.argsort(order, kind="stable").tolist():
        if found[i]:
            continue
        found[i] = next((name for name, left in room.items() if sizes[i] <= left), rest)
        if found[i] in room:
            room[found[i]] -= sizes[i]
    return found
