"""Noise that a number names: every draw is a function of a seed and a stream, on every machine and in every order.

NumPy promises the raw output of its bit generators across versions, not what its distributions make of it; so only Philox's raw
integers are used and the Gaussian is made here (Box and Muller 1958), in float64. It is rounded to float16 before anybody uses it:
the last bits of a logarithm, which differ between libraries, then never reach a model.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
_UNIT = 2.0**-53


def seed_of(*parts: str | int) -> int:
    """Return a 64-bit seed for what `parts` name together: the first 8 bytes of their BLAKE2b digest, little-endian."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def raw(seeds: Sequence[int], stream: int, count: int) -> U64:
    """Return Philox 4x64's first `count` integers for each key (seed, stream), counter 0; uint64[n, count]."""
    out = np.empty((len(seeds), count), np.uint64)
    for row, generator in enumerate(_generators(seeds, stream)):
        out[row] = generator.random_raw(count)
    return out


def uniforms(seeds: Sequence[int], stream: int, count: int) -> F64:
    """Return numbers in [0, 1) of 53 bits, float64[n, count]."""
    return (raw(seeds, stream, count) >> np.uint64(11)).astype(np.float64) * _UNIT


def normals(seeds: Sequence[int], stream: int, shape: Sequence[int]) -> npt.NDArray[np.float16]:
    """Return standard Gaussian noise, float16[n, *shape]: row i depends on `seeds[i]`, `stream` and `shape` alone."""
    count = int(np.prod(shape, dtype=np.int64))
    half = -(-count // 2)
    bits = raw(seeds, stream, 2 * half) >> np.uint64(11)
    radius = np.sqrt(-2.0 * np.log((bits[:, :half] + np.uint64(1)) * _UNIT))  # of (0, 1], so that the logarithm is finite
    angle = 2.0 * np.pi * (bits[:, half:] * _UNIT)
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :count].astype(np.float16).reshape(len(seeds), *shape)


def _generators(seeds: Sequence[int], stream: int) -> Iterator[np.random.Philox]:
    """Yield one generator, set to each key in turn: making a new one costs six times as much."""
    generator = np.random.Philox(key=0)
    state: dict[str, Any] = dict(generator.state)
    state["buffer_pos"] = 4  # nothing left over: the next integer comes from the counter
    for seed in seeds:
        state["state"] = {"counter": np.zeros(4, np.uint64), "key": np.array([seed, stream], np.uint64)}
        generator.state = state
        yield generator
