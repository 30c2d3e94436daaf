"""The pictures of an episode as JPEG or PNG bytes: passed on where the lake holds such bytes, transcoded where it holds video.

Decoding and JPEG coding release the GIL, so a small pool of threads keeps the cores busy; each of its tasks is a run of frames that
starts at a keyframe, so nothing is decoded twice.
"""

import os
from collections.abc import Buffer, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from pipelines.exporters.rlds.layout import CameraPlan
from pipelines.shards.decode import RGB, Track
from pipelines.shards.reader import Shard
from schemas.shards import CodecHeader

RUN_FRAMES = 32  # a task ends at the first keyframe behind this many frames ...
RUN_BYTES = 32 << 20  # ... or this many bytes of pixels
MOST_BYTES = 256 << 20  # a longer group of pictures is cut here and its head decoded again
BLANK = 8  # side of the black picture of a camera whose size is not known
I64 = npt.NDArray[np.int64]
type Bytes = dict[int, Buffer]


@dataclass(frozen=True, slots=True)
class Pictures:
    """One camera of one episode: the encoded picture of every step, and how many were copied and transcoded."""

    data: list[Buffer]
    copied: int
    transcoded: int


@dataclass(frozen=True, slots=True)
class PictureEncoder:
    """Encodes pictures at one JPEG quality on a pool of threads."""

    quality: int
    pool: ThreadPoolExecutor

    def start(self, shard: Shard, episode_id: str, plan: CameraPlan, frames: npt.NDArray[np.int32]) -> "Pending":
        """Begin to encode what each step sees (`frames` int32[T], -1 for nothing); `Pending.result` waits for it."""
        wanted = np.unique(frames[frames >= 0]).astype(np.int64)
        if len(wanted) == 0:
            return Pending(self, plan, frames, False, {}, [])
        track = shard.track(episode_id, plan.camera)
        if is_copied(track.info.header, plan.image.format):
            return Pending(self, plan, frames, True, {int(f): track.packet(int(track.row_of[f])) for f in wanted}, [])
        tasks = [self.pool.submit(self._transcode, shard, episode_id, plan.camera, run) for run in runs(track, wanted)]
        return Pending(self, plan, frames, False, {}, tasks)

    def _transcode(self, shard: Shard, episode_id: str, camera: str, run: I64) -> Bytes:
        pixels = shard.read(episode_id, camera, run)
        return {int(frame): encode_picture(picture, self.quality) for frame, picture in zip(run, pixels, strict=True)}


@dataclass(frozen=True, slots=True)
class Pending:
    """Pictures on their way."""

    encoder: PictureEncoder
    plan: CameraPlan
    frames: npt.NDArray[np.int32]
    is_copy: bool
    ready: Bytes
    tasks: list[Future[Bytes]]

    def result(self) -> Pictures:
        """Wait for every picture.

        Raises:
            CorruptMediaError: a picture does not decode.
        """
        found = self.ready | {f: data for task in self.tasks for f, data in task.result().items()}
        seen = int((self.frames >= 0).sum())
        blank = b"" if seen == len(self.frames) else blank_picture(self.plan, self.encoder.quality)
        data = [found[f] if f >= 0 else blank for f in self.frames.tolist()]
        return Pictures(data, seen if self.is_copy else 0, 0 if self.is_copy else seen)


def encode_picture(picture: RGB, quality: int) -> bytes:
    """Encode RGB uint8[H, W, 3] as JPEG 4:2:0; the same bytes for the same picture."""
    return simplejpeg.encode_jpeg(picture, quality, "RGB", "420", fastdct=False)


def blank_picture(plan: CameraPlan, quality: int) -> bytes:
    """Encode the black picture shown where there is none."""
    height, width, channels = plan.image.shape
    height, width = max(height, 0) or BLANK, max(width, 0) or BLANK
    if plan.image.format == "jpeg":
        return encode_picture(np.zeros((height, width, 3), np.uint8), quality)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return cv2.imencode(".png", np.zeros(shape, plan.image.dtype))[1].tobytes()


def picture_pool() -> ThreadPoolExecutor:
    """Return a pool with one thread per core this process may use, eight at most."""
    return ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0))), thread_name_prefix="pictures")


def is_copied(header: CodecHeader, image_format: str) -> bool:
    """Tell whether a track's packets are already pictures of the wanted format."""
    return header.rotation == 0 and header.codec == {"jpeg": "mjpeg", "png": "png"}[image_format]


def runs(track: Track, frames: I64) -> Iterator[I64]:
    """Cut ascending `frames` into runs that each start at a keyframe, bounded in pixels held at once."""
    header: Any = track.info.header
    size = max(header.width * header.height * 3, 1)
    enough, most = min(RUN_FRAMES, max(RUN_BYTES // size, 1)), max(MOST_BYTES // size, 1)
    keys = track.key_row[track.row_of[frames]]
    start = 0
    for stop in [*(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(frames)]:
        while stop - start > most:
            yield frames[start : start + most]
            start += most
        if stop - start >= enough or stop == len(frames):
            yield frames[start:stop]
            start = stop
