"""One step of one episode becomes a sample: plain numpy arrays and strings under LeRobot's names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from catalog.lake import Lake
from pipelines.loader.episode import EpisodeView, episode_view
from pipelines.loader.fields import Field
from pipelines.mixture.index import IndexRow

type Sample = dict[str, Any]
SECOND = 1_000_000_000


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
    """

    lake: Lake
    fields: Mapping[str, tuple[Field, ...]]
    match: Literal["hold", "nearest"] = "nearest"
    image_size: tuple[int, int] | None = None

    def read(self, row: IndexRow, step: int) -> Sample:
        """Return the sample anchored at `step` of an episode.

        Feature keys hold arrays [*shape] or, with a window, [K, *shape]; pictures are uint8 [3, H, W] or [K, 3, H, W]; windows
        come with `<key>_is_pad` bool[K]. Besides them: `task`, `episode_id`, `dataset`, `source` (str), `frame_index` (int, step
        in the episode) and `timestamp` (float, seconds on the episode clock).
        """
        view = episode_view(self.lake, row.dataset, row.shard, row.episode_id)
        sample: Sample = {
            "task": view.text("language", step), "episode_id": row.episode_id, "dataset": row.dataset, "source": row.source,
            "frame_index": step, "timestamp": float(view.t_ns[step]) / SECOND,
        }  # fmt: skip
        for field in self.fields[row.dataset]:
            if field.dtype == "string":
                sample[field.key] = view.text(field.name, step)
            elif field.kind == "feature":
                self._feature(sample, view, field, step)
            else:
                self._pictures(sample, view, field, step)
        return sample

    def _rows(self, view: EpisodeView, field: Field, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        if field.offsets_ns is None:
            return np.array([step]), np.zeros(1, np.bool_)
        found = view.window(step, field.offsets_ns, self.match)
        return found.rows[0], found.is_pad[0]

    def _feature(self, sample: Sample, view: EpisodeView, field: Field, step: int) -> None:
        rows, is_pad = self._rows(view, field, step)
        padded_end = field.is_action and not view.shard.contract.last_action_valid
        if padded_end:
            last = len(view.t_ns) - 1
            is_pad = is_pad | (rows == last)
            rows = np.minimum(rows, max(last - 1, 0))
        values = view.feature(field.name)[rows]
        windowed = field.offsets_ns is not None
        sample[field.key] = values if windowed else np.asarray(values[0])  # a scalar feature stays an array
        if windowed or padded_end:
            sample[f"{field.key}_is_pad"] = is_pad if windowed else is_pad[0]

    def _pictures(self, sample: Sample, view: EpisodeView, field: Field, step: int) -> None:
        rows, is_pad = self._rows(view, field, step)
        frames = view.frames(field.name)[rows]
        seen = frames >= 0
        if not seen.any():
            return
        images = view.pictures(field.name, frames[seen], masks=field.kind == "masks")
        if self.image_size is not None:
            images = np.stack([fit(image, self.image_size) for image in images])
        if not seen.all():
            whole = np.zeros((len(seen), *images.shape[1:]), images.dtype)
            whole[seen] = images
            images, is_pad = whole, is_pad | ~seen
        stack = np.ascontiguousarray(np.moveaxis(images, -1, 1))
        windowed = field.offsets_ns is not None
        sample[field.key] = stack if windowed else stack[0]
        if windowed:
            sample[f"{field.key}_is_pad"] = is_pad


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
