"""Contact sheets: evenly spaced pictures of one camera of one episode, side by side in one JPEG whose width is the time axis."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from pipelines.shards.reader import Shard
from schemas.contract import Camera
from schemas.errors import UsageError

TILE = 200  # pixels across one picture
QUALITY = 82
EMPTY = 128  # grey of a place where the camera shows nothing
RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """One camera's sheet. Picture `i` of `n` shows the middle of the i-th of n equal parts of the episode."""

    camera: str
    jpeg: bytes
    width: int
    height: int
    times_s: tuple[float, ...]


def contact_sheet(shard: Shard, episode_id: str, camera: Camera, *, frames: int = 8, tile: int = TILE) -> ContactSheet:
    """Build the sheet of one camera.

    Args:
        shard: holds the episode.
        episode_id: which one.
        camera: a camera of the shard's contract; segmentation is shown in colours, one per id.
        frames: number of pictures.
        tile: width of one picture in pixels; its height keeps the aspect.

    Returns:
        The JPEG and the episode time, seconds, of each picture.

    Raises:
        UsageError: `frames` is not positive.
        LakeError: the shard does not hold this camera of this episode.
        CorruptMediaError: a picture does not decode.
    """
    if frames < 1:
        raise UsageError(f"a contact sheet has at least one frame, not {frames}")
    steps = shard.episode_steps(episode_id)
    times, seen = steps.column("t_ns").to_numpy(), steps.column(f"frame.{camera.name}").to_numpy()
    at = _evenly(times, seen >= 0, frames)
    numbers = seen[at]
    shown = numbers >= 0
    pictures = _pictures(shard, episode_id, camera, numbers[shown])
    height, width = pictures.shape[1:3] if len(pictures) else (3, 4)
    size = (tile, max(round(tile * height / width), 1))
    sheet = np.full((size[1], frames * tile, 3), EMPTY, np.uint8)
    smooth = cv2.INTER_NEAREST if camera.role == "segmentation" else cv2.INTER_AREA
    for place, picture in zip(np.flatnonzero(shown).tolist(), pictures, strict=True):
        sheet[:, place * tile : (place + 1) * tile] = cv2.resize(picture, size, interpolation=smooth)
    jpeg = simplejpeg.encode_jpeg(sheet, quality=QUALITY, colorspace="RGB")
    return ContactSheet(camera.name, jpeg, sheet.shape[1], sheet.shape[0], tuple((times[at] / 1e9).tolist()))


def episode_duration_ns(times: npt.NDArray[np.int64]) -> int:
    """Return how long an episode lasts: the last step holds for one median period."""
    period = int(np.median(np.diff(times))) if len(times) > 1 else 1
    return int(times[-1] - times[0]) + period if len(times) else 0


def _evenly(times: npt.NDArray[np.int64], shown: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    """Return, int64[count], the step in force at the middle of each of `count` equal parts.

    A slow camera shows something at some steps only: then the nearest such step of the same part is taken, if there is one.
    """
    duration = episode_duration_ns(times)
    middles = times[0] + duration * (2 * np.arange(count) + 1) // (2 * count)
    at = np.maximum(np.searchsorted(times, middles, side="right") - 1, 0)
    some = np.flatnonzero(shown)
    for place in np.flatnonzero(~shown[at]) if len(some) else ():
        nearest = some[np.argmin(np.abs(times[some] - middles[place]))]
        if abs(int(times[nearest]) - int(middles[place])) * 2 * count <= duration:
            at[place] = nearest
    return at


def _pictures(shard: Shard, episode_id: str, camera: Camera, frames: npt.NDArray[Any]) -> RGB:
    if camera.role == "segmentation":
        return _coloured(shard.read_masks(episode_id, camera.name, frames)) if len(frames) else np.empty((0, 3, 4, 3), np.uint8)
    return shard.read(episode_id, camera.name, frames)


def _coloured(masks: npt.NDArray[Any]) -> RGB:
    """Give each id [n, H, W] its own colour [n, H, W, 3]; 0 (nothing) stays dark. Hues step by the golden angle."""
    ids = np.arange(256)
    hsv = np.stack([(ids * 111) % 180, np.full(256, 150), np.full(256, 225)], 1).astype(np.uint8)
    table = np.asarray(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB), np.uint8)[0]
    table[0] = (32, 34, 38)
    return table[masks.astype(np.int64) % 256]
