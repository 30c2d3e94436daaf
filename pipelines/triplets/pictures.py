"""The pictures of pairs as JPEG: each instant of an episode is decoded and encoded once, and a moved camera's is made of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annotators.triplets.spoil import shifted
from catalog.lake import Lake
from pipelines.shards.reader import open_shard

type Instant = tuple[str, str, int]  # episode, camera, nanoseconds on its clock


@dataclass
class Pictures:
    """JPEGs of instants.

    Attributes:
        lake: where the shards are.
        places: dataset and shard of every episode.
        quality: of the JPEGs.
    """

    lake: Lake
    places: Mapping[str, tuple[str, str]]
    quality: int = 95
    _held: dict[Instant, bytes] = field(default_factory=dict[Instant, bytes])

    def load(self, instants: Iterable[Instant]) -> None:
        """Forget what is held, and decode these instants: one pass per episode and camera.

        Raises:
            CorruptMediaError: a picture does not decode.
        """
        import simplejpeg

        self._held.clear()
        wanted: dict[tuple[str, str], set[int]] = {}
        for episode, camera, t_ns in instants:
            wanted.setdefault((episode, camera), set()).add(t_ns)
        for (episode, camera), times in sorted(wanted.items()):
            shard = open_shard(self.lake, *self.places[episode])
            when = np.array(sorted(times), np.int64)
            frames = np.searchsorted(shard.track(episode, camera).pts_ns, when)
            for t_ns, picture in zip(when.tolist(), shard.read(episode, camera, frames), strict=True):
                self._held[episode, camera, t_ns] = simplejpeg.encode_jpeg(
                    np.ascontiguousarray(picture), quality=self.quality, colorspace="RGB", colorsubsampling="444"
                )

    def jpeg(self, instant: Instant, shift: tuple[float, float] | None = None) -> bytes:
        """Return the JPEG of a loaded instant; `shift` moves it by shares of its width and height, as if the camera had moved."""
        data = self._held[instant]
        if shift is None:
            return data
        import simplejpeg

        picture: Any = simplejpeg.decode_jpeg(data, colorspace="RGB")
        height, width = picture.shape[:2]
        moved = shifted(picture, shift[0] * width, shift[1] * height)
        return simplejpeg.encode_jpeg(np.ascontiguousarray(moved), quality=self.quality, colorspace="RGB", colorsubsampling="444")
