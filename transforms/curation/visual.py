"""Compares episodes by perceptual hashes of keyframes, spaced evenly along the motion and aligned monotonically.

A fixed camera sees nearly the same picture in every episode of a scene, so a small distance alone proves nothing: it must also be
small against how much the picture changes within the episode.
"""

import numpy as np
import numpy.typing as npt

from transforms.curation.lsh import I64
from transforms.curation.signals import Signals
from transforms.rotation import F64

U64 = npt.NDArray[np.uint64]
KEYFRAMES, BITS = 16, 64
FAR, BAND = 8, 2  # bits of 64; keyframes, a tenth of them
CONTRAST_GAP, OF_CONTRAST = 4, 0.5
BANDS, PER_FRAME = 32, 4  # bands of 4 keyframes x 4 bits
CHUNK = 4096


def keyframe_steps(signals: Signals | None, steps: I64, t_ns: I64) -> I64:
    """Return which of `steps` (those that see a picture, int64[n]) to hash: 16, evenly along the motion's arc, else along time."""
    if signals is not None:
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(signals.path, axis=0), axis=1))])
        place = np.interp(t_ns[steps], signals.even_ns, along)
    else:
        place = (t_ns[steps] - t_ns[steps[0]]).astype(np.float64)
    wanted = np.linspace(place[0], place[-1], KEYFRAMES)
    return steps[np.clip(np.searchsorted(place, wanted), 0, len(steps) - 1)]


def perceptual_hash(picture: npt.NDArray[np.uint8]) -> int:
    """Return the 64-bit pHash of a picture uint8[H, W, 3] (imagehash)."""
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(picture)).hash.reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def band_signatures(hashes: U64) -> npt.NDArray[np.uint16]:
    """Return uint16[N, 32] of hashes uint64[N, 16]: each is 4 bits of 4 keyframes, chosen once and for all."""
    order = np.random.Generator(np.random.Philox(17)).permuted(np.tile(np.arange(BITS), (4, 1)), axis=1)
    columns: list[npt.NDArray[np.uint16]] = []
    for group in range(4):
        frames = np.arange(group, KEYFRAMES, 4)
        for band in range(BANDS // 4):
            code = np.zeros(len(hashes), np.uint16)
            for frame in frames.tolist():
                for bit in order[group, band * PER_FRAME : (band + 1) * PER_FRAME].tolist():
                    code = (code << np.uint16(1)) | ((hashes[:, frame] >> np.uint64(bit)) & np.uint64(1)).astype(np.uint16)
            columns.append(code)
    return np.stack(columns, 1)


def contrast(hashes: U64) -> F64:
    """Median distance in bits between keyframes at least a quarter apart, float64[N]: how much each episode's picture changes."""
    i, j = np.triu_indices(KEYFRAMES, CONTRAST_GAP)
    return np.median(np.bitwise_count(hashes[:, i] ^ hashes[:, j]), axis=1)


def aligned_distance(a: U64, b: U64) -> F64:
    """Median Hamming distance along the best monotone alignment (DTW within two keyframes) of uint64[P, 16] each, float64[P]."""
    parts = [_aligned(a[at : at + CHUNK], b[at : at + CHUNK]) for at in range(0, len(a), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(0)


def is_same(distance: F64, contrast_a: F64, contrast_b: F64) -> npt.NDArray[np.bool_]:
    """Tell which distances mean a near-duplicate: at most 8 bits, and at most half of how much the less lively episode changes."""
    return (distance <= FAR) & (distance <= np.maximum(1.0, OF_CONTRAST * np.minimum(contrast_a, contrast_b)))


def _aligned(a: U64, b: U64) -> F64:
    cost = np.bitwise_count(a[:, :, None] ^ b[:, None, :]).astype(np.float64)
    pairs, n, _ = cost.shape
    total = np.full((pairs, n + 1, n + 1), np.inf)
    total[:, 0, 0] = 0.0
    came = np.zeros((pairs, n, n), np.int8)
    for i in range(n):
        for j in range(max(0, i - BAND), min(n, i + BAND + 1)):
            before = np.stack([total[:, i, j], total[:, i, j + 1], total[:, i + 1, j]], 1)
            came[:, i, j] = before.argmin(1)
            total[:, i + 1, j + 1] = cost[:, i, j] + before.min(1)
    return _median_along(cost, came)


def _median_along(cost: F64, came: npt.NDArray[np.int8]) -> F64:
    pairs, n, _ = cost.shape
    rows = np.arange(pairs)
    i, j = np.full(pairs, n - 1), np.full(pairs, n - 1)
    steps = np.full((pairs, 2 * n), np.nan)
    open_ = np.ones(pairs, bool)
    for k in range(2 * n):
        steps[open_, k] = cost[rows[open_], i[open_], j[open_]]
        move = came[rows, i, j]
        open_ &= (i > 0) | (j > 0)
        i = np.where(open_ & (move != 2), np.maximum(i - 1, 0), i)
        j = np.where(open_ & (move != 1), np.maximum(j - 1, 0), j)
        if not open_.any():
            break
    return np.nanmedian(steps, axis=1)
