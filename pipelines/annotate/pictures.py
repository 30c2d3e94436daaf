"""Decodes what annotators look at: clips of episodes at a working resolution, each camera once per size."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.clips import Clip, Look, no_clip
from pipelines.loader.pictures import fit, inner_size
from pipelines.shards.backends.registry import backend_for
from pipelines.shards.decode import decode_masks, decode_rgb
from pipelines.shards.reader import Shard
from pipelines.shards.track import Track
from schemas.contract import Contract
from transforms.grid import I64, SECOND

SLICE_BYTES = 256 << 20  # pictures as the decoder gives them, before they are scaled
MASKS = ("depth", "segmentation")


@dataclass(frozen=True, slots=True)
class Shown:
    """Which pictures of a camera an episode shows, before anything is decoded.

    Attributes:
        frames: int64[N] presentation numbers.
        t_ns: int64[N].
        step: int64[N], see `Clip`.
        seen: int64[T], see `Clip`.
    """

    frames: I64
    t_ns: I64
    step: I64
    seen: I64

    def part(self, start: int, stop: int) -> "Shown":
        """Return what falls into steps `[start, stop)`, numbered from its first picture and step."""
        a, b = np.searchsorted(self.step, [start, stop]).tolist()
        seen = self.seen[start:stop]
        seen = np.where((seen >= a) & (seen < b), seen - a, -1)
        return Shown(self.frames[a:b], self.t_ns[a:b], self.step[a:b] - start, seen)


def shown(shard: Shard, episode: str, look: Look) -> Shown:
    """List the pictures of a camera from the first one a step sees to the end of the episode, at most `look.hz` per second."""
    steps = shard.episode_steps(episode)
    column, empty = f"frame.{look.camera}", np.empty(0, np.int64)
    nothing = Shown(empty, empty, empty, np.full(steps.num_rows, -1, np.int64))
    if (episode, look.camera) not in shard.tracks or column not in steps.column_names:
        return nothing
    sees = steps.column(column).to_numpy().astype(np.int64)
    if not (sees >= 0).any():
        return nothing
    t_ns, track = steps.column("t_ns").to_numpy(), shard.track(episode, look.camera)
    end = int(t_ns[-1]) + max(int(np.median(np.diff(t_ns))) if len(t_ns) > 1 else 1, 1)
    low, high = int(sees[sees >= 0].min()), int(sees.max())
    pts = track.pts_ns
    frames = np.arange(low, max(high + 1, int(np.searchsorted(pts, end))))
    if look.hz is not None:
        cell = np.floor((pts[frames] - pts[low]) * (look.hz / SECOND) + 1e-6)
        frames = frames[np.concatenate([[True], np.diff(cell) > 0])]
    step = np.searchsorted(np.maximum.accumulate(sees), frames, side="right") - 1
    seen = np.where(sees >= 0, np.searchsorted(frames, sees, side="right") - 1, -1)
    return Shown(frames, pts[frames], step, seen)


def clip_bytes(shard: Shard, episode: str, look: Look, what: Shown) -> int:
    """Return how much memory the pictures of a look take, at a byte per number."""
    if not len(what.frames):
        return 0
    channels = 1 if _is_mask(shard.contract, look) else 3
    return len(what.frames) * prod(inner(shard.track(episode, look.camera), look)) * channels


def whole_clip(shard: Shard, episode: str, look: Look) -> Clip:
    """Decode everything an episode shows of a look.

    Raises:
        CorruptMediaError: a picture cannot be decoded.
    """
    return read_clip(shard, episode, look, shown(shard, episode, look))


def read_clip(shard: Shard, episode: str, look: Look, what: Shown) -> Clip:
    """Decode what a look shows.

    Raises:
        CorruptMediaError: a picture cannot be decoded.
    """
    if not len(what.frames):
        return no_clip(len(what.seen))
    track = shard.track(episode, look.camera)
    size, mask = inner(track, look), _is_mask(shard.contract, look)
    pictures = _masks(track, what.frames, size) if mask else _pictures(track, what.frames, size)
    return Clip(pictures, what.t_ns, what.step, what.seen, track.shape[:2])


def inner(track: Track, look: Look) -> tuple[int, int]:
    """Return the height and width of a look's pictures: scaled into `look.size`, never enlarged."""
    stored = track.shape[:2]
    if look.size is None or (stored[0] <= look.size[0] and stored[1] <= look.size[1]):
        return stored
    return inner_size(stored, look.size)


def _pictures(track: Track, frames: I64, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Decode in one run where the decoder scales as it goes; else in as few as memory allows, for each begins at a keyframe again."""
    result = np.empty((len(frames), *size, 3), np.uint8)
    turned, backend = track.info.header.rotation % 180, backend_for(track.info.header.codec)
    for rows in _slices(len(frames), 3 * prod(backend.reduced(track, *(size[::-1] if turned else size)))):
        found = decode_rgb(track, frames[rows], at_least=None if size == track.shape[:2] else size)
        if found.shape[1:3] == size:
            result[rows] = found
            continue
        for place, picture in zip(range(rows.start, rows.stop), found, strict=True):
            result[place] = fit(picture, size, size)
    return result


def _masks(track: Track, frames: I64, size: tuple[int, int]) -> npt.NDArray[Any]:
    stored = decode_masks(track, frames)
    if stored.shape[1:3] == size:
        return stored
    import cv2

    return np.stack([cv2.resize(m, size[::-1], interpolation=cv2.INTER_NEAREST) for m in stored])


def _slices(count: int, picture_bytes: int) -> Sequence[slice]:
    each = max(SLICE_BYTES // max(picture_bytes, 1), 16)
    return [slice(a, min(a + each, count)) for a in range(0, count, each)]


def _is_mask(contract: Contract, look: Look) -> bool:
    return any(c.name == look.camera and c.role in MASKS for c in contract.cameras)
