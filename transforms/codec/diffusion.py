"""Masks of discrete diffusion over action tokens (Discrete Diffusion VLA, 2025). Nothing is stored: a seed, a step and a row say all.

Training hides a share gamma(u) = cos(pi u / 2) of a chunk's tokens, u uniform; inference reveals them in rounds by the same curve.
Numbers are raw 64-bit outputs of a counter-based generator, so they are the same on every machine and under every batch size.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from transforms.codec.base import BOOL, F64, I64


def mask_ratio(u: F64 | float) -> F64:
    """Return the share of tokens that is hidden at `u` in [0, 1]: 1 at 0, 0 at 1."""
    return np.cos(np.pi * np.asarray(u, np.float64) / 2)


def training_masks(seed: int, step: int, rows: Sequence[str | int], length: int) -> tuple[BOOL, F64]:
    """Return what training hides of each row at a step.

    Args:
        seed: of the run.
        step: of the run; another one gives fresh masks.
        rows: ids of the rows; a row's mask does not depend on the others.
        length: tokens per row.

    Returns:
        bool[n, length], true where hidden (at least one token of each row), and the ratios float64[n] they were drawn with.
    """
    masks, ratios = np.zeros((len(rows), length), np.bool_), np.empty(len(rows))
    for place, row in enumerate(rows):
        key = hashlib.blake2b(f"{seed}\0{step}\0{row}".encode(), digest_size=16).digest()
        words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(length + 1)
        ratios[place] = mask_ratio(float(words[0] >> np.uint64(11)) * 2.0**-53)
        hidden = max(1, math.ceil(float(ratios[place]) * length)) if length else 0
        masks[place, np.argsort(words[1:], kind="stable")[:hidden]] = True
    return masks, ratios


def reveal_counts(length: int, rounds: int = 12) -> I64:
    """Return how many tokens are known after each inference round, int64[rounds], rising to `length`."""
    ratios = mask_ratio(np.arange(1, rounds + 1) / rounds)
    ratios[-1] = 0.0
    return length - np.floor(ratios * length).astype(np.int64)
