"""Held-out groups by hash: all of a group or none of it, and adding groups never moves one that was there."""

from collections.abc import Sequence

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
