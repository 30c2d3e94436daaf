"""Pictures of an episode, upright and at the size a sample wants them, and blocks of them that samples share."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.loader.episode import EpisodeView
from pipelines.loader.fields import Field
from pipelines.loader.pool import Pool
from pipelines.loader.ring import Block, BlockRing, Picture
from pipelines.shards.backends.base import Backend, Holds
from pipelines.shards.backends.registry import backend_for
from pipelines.shards.decode import decode_rgb
from pipelines.shards.track import Track
from schemas.mixture import Match
from transforms.windows import delayed_window


@dataclass(frozen=True, slots=True)
class Shots:
    """The pictures of one camera of one episode as samples show them.

    Attributes:
        track: where the packets are.
        backend: what decodes them.
        shape: height, width and channels of a shown picture.
        inner: (height, width) that a picture is scaled to before it is centred in `shape`; None: it is shown as it is stored.
        fast: allow a minor loss of quality, see `decode_rgb`.
    """

    track: Track
    backend: Backend
    shape: tuple[int, int, int]
    inner: tuple[int, int] | None
    fast: bool

    @property
    def plain(self) -> bool:
        """Whether the decoder's own pictures are what samples show."""
        return self.inner is None and not self.track.info.header.rotation

    def decode(self, frames: Sequence[int], out: Sequence[Picture]) -> None:
        """Write frames (in any order, repeats allowed) to `out`, uint8[*shape] each."""
        if self.plain and frames[0] >= 0 and frames[-1] < self.track.info.frames and all(a < b for a, b in pairwise(frames)):
            self.backend.decode(self.track, frames, out, fast=self.fast)
            return
        # A decoder that can, makes pictures smaller where they are wanted smaller.
        found = decode_rgb(self.track, frames, fast=self.fast, at_least=self.inner if self.fast else None)
        for place, image in zip(out, found, strict=True):
            place[...] = image if self.inner is None else fit(image, self.shape[:2], self.inner)


@dataclass(frozen=True, slots=True)
class Copies:
    """Keeps pictures as they are shown, on memory of a pool."""

    shots: Shots
    pool: Pool

    def decode(self, frames: Sequence[int], out: Sequence[Picture]) -> None:
        """Write frames to `out`."""
        self.shots.decode(frames, out)

    def keep(self, frames: Sequence[int], places: Mapping[int, Picture], wanted: Callable[[int], bool]) -> dict[int, Any]:
        """Decode every frame where it is shown, and copy it while it is near."""
        kept = {frame: self._room() for frame in frames if wanted(frame)}
        self.shots.decode(frames, [places[f] if f in places else kept[f] if f in kept else self._room() for f in frames])
        for frame, place in places.items():
            if frame in kept:
                np.copyto(kept[frame], place)
        return kept

    def show(self, kept: Any, out: Picture) -> None:
        """Copy."""
        np.copyto(out, kept)

    def size(self, kept: Any) -> int:
        """Bytes of its pixels."""
        return kept.nbytes

    def _room(self) -> Picture:
        height, width, channels = self.shots.shape
        return self.pool.take(height * width * channels).reshape(self.shots.shape)


@dataclass(frozen=True, slots=True)
class Held:
    """Keeps pictures as the decoder made them, which is half of the memory or less, and converts them each time they are shown."""

    shots: Shots
    backend: Holds

    def decode(self, frames: Sequence[int], out: Sequence[Picture]) -> None:
        """Write frames to `out`."""
        self.shots.decode(frames, out)

    def keep(self, frames: Sequence[int], places: Mapping[int, Picture], wanted: Callable[[int], bool]) -> dict[int, Any]:
        """Decode, and convert those that are shown."""
        found = dict(zip(frames, self.backend.hold(self.shots.track, frames), strict=True))
        for frame, place in places.items():
            self.show(found[frame], place)
        return {frame: picture for frame, picture in found.items() if wanted(frame)}

    def show(self, kept: Any, out: Picture) -> None:
        """Convert."""
        self.backend.show(self.shots.track, kept, out)

    def size(self, kept: Any) -> int:  # noqa: ARG002
        """Bytes of a picture with two colours for every four pixels, by far the most common."""
        height, width, channels = self.shots.shape
        return height * width * channels // 2


@dataclass(frozen=True, slots=True)
class Pictures:
    """Decodes for a `SampleReader`, whose attributes these are."""

    image_size: tuple[int, int] | None
    fast: bool
    match: Match

    def shots(self, view: EpisodeView, camera: str) -> Shots:
        """Return a camera's pictures."""
        known = view.shots.get((camera, self.image_size, self.fast))
        if known is not None:
            return known
        track = view.shard.track(view.episode_id, camera)
        inner = None if self.image_size is None else inner_size(track.shape[:2], self.image_size)
        shape = track.shape if self.image_size is None else (*self.image_size, 3)
        found = Shots(track, backend_for(track.info.header.codec), shape, inner, self.fast)
        return view.shots.setdefault((camera, self.image_size, self.fast), found)

    def block(self, view: EpisodeView, field: Field, span: tuple[int, int], ring: BlockRing, pool: Pool, *, once: bool) -> Block:
        """Return the block of every picture that samples anchored in the steps `[first, stop)` of `span` can show.

        Args:
            view: the episode.
            field: the camera, and the instants it is wanted at.
            span: steps of the episode.
            ring: the block belongs to.
            pool: memory for pictures.
            once: whether each of these steps is drawn once, so that a picture that all of them have shown can go.
        """
        shots = self.shots(view, field.name)
        windows = self._rows(view, field, np.arange(*span))
        exact = once and len(windows) == 1
        frames = view.frames(field.name)[np.concatenate(windows) if exact else _between(windows)]
        uses = Counter(frames[frames >= 0].tolist())
        store = Held(shots, shots.backend) if shots.plain and isinstance(shots.backend, Holds) else Copies(shots, pool)
        return Block(ring, store, _units(shots.track, sorted(uses)), uses if exact else None)

    def _rows(self, view: EpisodeView, field: Field, anchors: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
        """Return the rows that anchors look at, under the least and the largest delay where one is drawn."""
        if field.offsets_ns is None and not field.is_late:
            return [anchors]
        late = dict.fromkeys((field.latency_ns, field.latency_ns + field.delay_ns))
        hold, offsets = view.period_ns, field.offsets_ns or (0,)
        found = [delayed_window(view.t_ns, anchors, offsets, hold_ns=hold, match=self.match, late_ns=ns) for ns in late]
        return [(w.rows[~w.is_pad] if field.edge == "mask" else w.rows).ravel() for w in found]


def _between(windows: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return every row from the first that is looked at to the last: where delays are drawn, any of them may be."""
    rows = np.concatenate(windows)
    return np.arange(rows.min(), rows.max() + 1) if len(rows) else rows


def _units(track: Track, frames: list[int]) -> dict[int, tuple[int, ...]]:
    """Return per frame those that hang on the same keyframe: decoding the last of them decodes them all."""
    groups: dict[int, list[int]] = {}
    for frame in frames:
        groups.setdefault(int(track.key_row[track.row_of[frame]]), []).append(frame)
    return {frame: unit for unit in map(tuple, groups.values()) for frame in unit}


def inner_size(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width of a picture that was scaled into (height, width), keeping its aspect."""
    scale = min(into[0] / size[0], into[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fit(image: npt.NDArray[Any], size: tuple[int, int], inner: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """Scale [H, W, C] into (height, width), keeping its aspect, centred on black; masks keep their labels.

    Args:
        image: of any size.
        size: of the result.
        inner: of the scaled picture, where `image` has been made smaller already; None: by its own aspect.
    """
    height, width = inner or inner_size((image.shape[0], image.shape[1]), size)
    if image.shape[:2] != (height, width):
        is_mask, smaller = image.dtype != np.uint8, height < image.shape[0] or width < image.shape[1]
        method = cv2.INTER_NEAREST if is_mask else cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=method).reshape(height, width, image.shape[2])
    if (height, width) == size:
        return image
    result = np.zeros((*size, image.shape[2]), image.dtype)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    result[top : top + height, left : left + width] = image
    return result
