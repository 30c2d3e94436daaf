"""One step of one episode becomes a sample: plain numpy arrays and strings under LeRobot's names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from catalog.lake import Lake
from pipelines.loader.episode import EpisodeView, episode_view
from pipelines.loader.fields import Field
from pipelines.loader.pool import Pool
from pipelines.loader.ring import Block, BlockRing
from pipelines.mixture.index import IndexRow
from pipelines.shards.decode import decode_rgb
from transforms.windows import Window, fill_edges, window

type Sample = dict[str, Any]
type Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Nearby:
    """The anchors `[first, stop)` of an episode that an order draws near each other, and the ring that keeps their pictures."""

    ring: BlockRing
    pool: Pool
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class SampleReader:
    """Reads samples.

    A field is absent from a sample where its episode has nothing to show: its dataset does not declare it, or the camera saw no
    frame. Inside a window, such an entry is zero and `<key>_is_pad` is true.

    Attributes:
        lake: where the shards are.
        fields: per dataset, what a sample holds.
        match: which step an instant means, see `transforms.windows.window`.
        image_size: (height, width) every picture is fitted into, keeping its aspect, with black borders; None: as stored.
        fast: decode JPEG with libjpeg-turbo's fast transforms, a minor loss of quality.
    """

    lake: Lake
    fields: Mapping[str, tuple[Field, ...]]
    match: Literal["hold", "nearest"] = "nearest"
    image_size: tuple[int, int] | None = None
    fast: bool = True

    def read(
        self,
        row: IndexRow,
        step: int,
        into: Mapping[str, npt.NDArray[Any]] | None = None,
        nearby: Nearby | None = None,
        draw: int = 0,
    ) -> Sample:
        """Return the sample anchored at `step` of an index row.

        Feature keys hold arrays [*shape] or, with a window, [K, *shape]; pictures are uint8 [3, H, W] or [K, 3, H, W], stored
        channels last; windows come with `<key>_is_pad` bool[K]. Besides them: `task`, `episode_id`, `dataset`, `source` (str),
        `frame_index` (int, step in the episode) and `timestamp` (float, seconds on the episode clock).

        Args:
            row: the episode.
            step: of the episode.
            into: per key, where its pictures may be decoded to; used, and itself returned, where the shape is right.
            nearby: anchors whose pictures are worth decoding together.
            draw: number of the draw; with the episode and the step it seeds what a sample draws at random.
        """
        view = episode_view(self.lake, row.dataset, row.shard, row.episode_id)
        if cut := row.first_row - view.first_row:  # the row leaves out steps whose window would leave the episode
            step += cut
            nearby = nearby and replace(nearby, first=nearby.first + cut, stop=nearby.stop + cut)
        sample: Sample = {
            "task": view.text("language", step), "episode_id": row.episode_id, "dataset": row.dataset, "source": row.source,
            "frame_index": step, "timestamp": float(view.t_ns[step]) / SECOND,
        }  # fmt: skip
        windows: dict[Any, Window] = {}  # fields with the same offsets share their rows
        for field in self.fields[row.dataset]:
            key = (field.offsets_ns, field.latency_ns, field.delay_ns)
            if key not in windows:
                windows[key] = view.look(field, step, self.match, draw)
            rows = (windows[key].rows, windows[key].is_pad)
            if field.dtype == "string":
                sample[field.key] = view.text(field.name, step)
            elif field.kind == "feature":
                self._feature(sample, view, field, rows)
            elif field.kind == "staleness":
                _emit_values(sample, field, (windows[key].staleness_ns / SECOND).astype(np.float32), rows[1])
            elif field.kind == "masks":
                self._masks(sample, view, field, rows)
            else:
                self._pictures(sample, view, field, rows, (into or {}).get(field.key), nearby)
        return sample

    def _feature(self, sample: Sample, view: EpisodeView, field: Field, found: Rows) -> None:
        rows, is_pad = found
        padded_end = field.is_action and not view.shard.contract.last_action_valid
        if padded_end:
            last = len(view.t_ns) - 1
            is_pad = is_pad | (rows == last)
            rows = np.minimum(rows, max(last - 1, 0))
        values = fill_edges(view.feature(field.name)[rows], is_pad, field.edge, field.relative)
        _emit_values(sample, field, values, is_pad, told=padded_end)

    def _masks(self, sample: Sample, view: EpisodeView, field: Field, found: Rows) -> None:
        frames = view.frames(field.name)[found[0]]
        seen = _shown(frames, found[1], field)
        if not seen.any():
            return
        images = view.pictures(field.name, frames[seen], masks=True)
        if self.image_size is not None:
            images = np.stack([fit(image, self.image_size) for image in images])
        whole = np.zeros((len(seen), *images.shape[1:]), images.dtype)
        whole[seen] = images
        _emit(sample, field, whole, found[1] | ~seen)

    def _pictures(
        self, sample: Sample, view: EpisodeView, field: Field, found: Rows, into: npt.NDArray[Any] | None, nearby: Nearby | None
    ) -> None:
        """Decode to `into`, where it has the right shape, else to memory of the sample's own."""
        rows, is_pad = found
        frames = view.frames(field.name)[rows]
        seen = _shown(frames, is_pad, field)
        if not seen.any():
            return
        shape = self._shape(view, field)
        target = None
        if into is not None:
            target = (into if field.offsets_ns is not None else into[None]).transpose(0, 2, 3, 1)
        fits = target is not None and target.shape == (len(rows), *shape)
        whole = target if target is not None and fits else np.empty((len(rows), *shape), np.uint8)
        if seen.all():
            self._decode(view, field, frames, whole, nearby)
        else:
            images = np.empty((int(seen.sum()), *shape), np.uint8)
            self._decode(view, field, frames[seen], images, nearby)
            whole[seen], whole[~seen] = images, 0
            is_pad = is_pad | ~seen
        _emit(sample, field, whole, is_pad)
        if fits:
            sample[field.key] = into

    def _shape(self, view: EpisodeView, field: Field) -> tuple[int, ...]:
        if self.image_size is not None:
            return *self.image_size, 3
        return view.shard.track(view.episode_id, field.name).shape

    def _decode(
        self, view: EpisodeView, field: Field, frames: npt.NDArray[np.int32], out: npt.NDArray[Any], nearby: Nearby | None
    ) -> None:
        if nearby is not None:
            ring, key = nearby.ring, (view.shard.shard, view.episode_id, field.name, nearby.first)
            block = ring.get(key, lambda: self._block(view, field, nearby))
            places = [block.places.get(f, -1) for f in frames.tolist()] if block is not None else [-1]
            if block is not None and min(places) >= 0:
                for place, found in enumerate(places):
                    np.copyto(out[place], block.pictures[found])
                return
        track = view.shard.track(view.episode_id, field.name)
        if self.image_size is None:
            decode_rgb(track, frames, out, fast=self.fast)
            return
        for place, image in enumerate(decode_rgb(track, frames, fast=self.fast)):
            out[place] = fit(image, self.image_size)

    def _block(self, view: EpisodeView, field: Field, nearby: Nearby) -> Block:
        """Decode every frame that the anchors of a block need, once."""
        anchors = np.arange(nearby.first, nearby.stop)
        if field.offsets_ns is not None:
            found = window(view.t_ns, anchors, field.offsets_ns, hold_ns=view.period_ns, match=self.match)
            anchors = found.rows.reshape(-1)
        frames = np.unique(view.frames(field.name)[anchors])
        frames = frames[frames >= 0]
        shape = (len(frames), *self._shape(view, field))
        pictures = nearby.pool.take(int(np.prod(shape))).reshape(shape)
        self._decode(view, field, frames, pictures, None)
        return Block(pictures, {frame: place for place, frame in enumerate(frames.tolist())})


def _emit(sample: Sample, field: Field, images: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_]) -> None:
    _emit_values(sample, field, images.transpose(0, 3, 1, 2), is_pad)


def _emit_values(
    sample: Sample, field: Field, values: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_], *, told: bool = False
) -> None:
    """Put the K values of a window, or the single one without a time axis; its padding where it can be padding."""
    windowed = field.offsets_ns is not None
    sample[field.key] = values if windowed else np.asarray(values[0])  # a scalar feature stays an array
    if windowed or told or field.is_late:
        sample[f"{field.key}_is_pad"] = is_pad if windowed else is_pad[0]


def _shown(frames: npt.NDArray[np.int32], is_pad: npt.NDArray[np.bool_], field: Field) -> npt.NDArray[np.bool_]:
    return (frames >= 0) & ~is_pad if field.edge == "mask" else frames >= 0


def fit(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Scale [H, W, C] into (height, width), keeping its aspect, centred on black; masks keep their labels."""
    height, width = size
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    is_mask = image.dtype != np.uint8
    method = cv2.INTER_NEAREST if is_mask else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (inner[1], inner[0]), interpolation=method).reshape(*inner, image.shape[2])
    result = np.zeros((height, width, image.shape[2]), image.dtype)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = scaled
    return result
