"""What can be measured of pictures without a model: sharpness, brightness, change, and how long nothing has changed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.clips import Clip
from transforms.grid import I64, SECOND

F32 = npt.NDArray[np.float32]
WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of the pictures of one clip, each float32[N]; `change` is NaN where nothing lies far enough back."""

    sharpness: F32
    luminance: F32
    change: F32
    frozen_s: F32


def measure(clip: Clip, change_s: float, still_below: float, longest_s: float) -> Measured:
    """Measure every picture of a clip.

    Args:
        clip: colour pictures uint8[N, H, W, 3] with their times.
        change_s: change is measured against the picture this long before.
        still_below: mean difference of luminance (of 1) under which two pictures in a row are the same.
        longest_s: `frozen_s` counts up to this.
    """
    import cv2

    count = len(clip)
    sharp, light = np.empty(count, np.float32), np.empty(count, np.float32)
    step, change = np.zeros(count, np.float32), np.full(count, np.nan, np.float32)
    before, luma = _before(clip.t_ns, change_s), dict[int, F32]()
    for n, shown in enumerate(clip.pictures):
        luma[n] = picture = _luminance(shown)
        sharp[n] = cv2.Laplacian(picture, cv2.CV_32F).var(dtype=np.float64)
        light[n] = picture.mean(dtype=np.float64)
        step[n] = _difference(picture, luma[n - 1]) if n else np.inf
        if before[n] >= 0:
            change[n] = _difference(picture, luma[int(before[n])]) * SECOND / (clip.t_ns[n] - clip.t_ns[before[n]])
        luma = {k: v for k, v in luma.items() if k >= min(n, before[n])}  # neither this nor a later picture looks further back
    return Measured(sharp, light, change, _frozen(clip.t_ns, step < still_below, longest_s))


def _luminance(picture: npt.NDArray[np.uint8]) -> F32:
    return (picture.astype(np.float32) @ WEIGHTS) / np.float32(255)


def _difference(a: F32, b: F32) -> float:
    return float(np.abs(a - b).mean(dtype=np.float64))


def _before(t_ns: I64, seconds: float) -> I64:
    """Return for each picture the last one at least `seconds` earlier, -1 where there is none; a millisecond is forgiven."""
    return np.searchsorted(t_ns, t_ns - round(seconds * SECOND) + 1_000_000, side="right") - 1


def _frozen(t_ns: I64, same: npt.NDArray[np.bool_], longest_s: float) -> F32:
    """Return float32[N]: seconds since the picture last differed from the one before it."""
    began = np.maximum.accumulate(np.where(same, 0, np.arange(len(t_ns))))
    return np.minimum((t_ns - t_ns[began]) / SECOND, longest_s).astype(np.float32)
