"""Scores of pictures: sharpness, exposure, freezes, and whether what moves in the picture moves with the robot.

Sharpness is relative: an episode's against the median of the same camera over the dataset. An absolute limit would be about texture
and resolution, not about blur.
"""

from itertools import pairwise

import numpy as np

from transforms.curation.score import Footage, Score, Subject, missing
from transforms.grid import SECOND, changes, runs
from transforms.rotation import F64

DARK, BRIGHT, DULL, FLAT = 16.0, 240.0, 16.0, 4.0  # mean, mean, and twice the standard deviation of luma
SAME = 0.05  # mean difference of two pictures that are the same picture
MOVING = 0.05  # of the 99th percentile of speed


def sharpness(subject: Subject) -> Score:
    """Median variance of the Laplacian, of the least sharp camera; raw, for `blur` to compare within each camera."""
    found = {c: float(np.median(f.sharpness)) for c, f in subject.footage.items() if len(f.sharpness)}
    return Score(min(found.values()), {"cameras": found}) if found else _nothing(subject)


def exposure(subject: Subject) -> Score:
    """Share of pictures that are nearly black, nearly white or flat; the worst camera's of those that show anything at all.

    A camera that is blank throughout is listed as such: many datasets declare cameras that some robots do not have.
    """
    found: dict[str, float] = {}
    for camera, footage in subject.footage.items():
        if not len(footage.luma):
            continue
        mean, spread = footage.luma.mean((1, 2)), footage.luma.std((1, 2))
        found[camera] = float(((((mean < DARK) | (mean > BRIGHT)) & (spread < DULL)) | (spread < FLAT)).mean())
    if not found:
        return _nothing(subject)
    blank = [c for c, share in found.items() if share == 1.0]
    shown = [share for share in found.values() if share < 1.0]
    return Score(max(shown) if shown else 1.0, {"cameras": found, "blank": blank})


def freeze(subject: Subject) -> Score:
    """Longest time in seconds for which a camera shows the same picture although the robot moves; the worst camera's."""
    found = {c: _frozen(subject, f) for c, f in subject.footage.items() if len(f.luma) > 1}
    return Score(max(found.values()), {"cameras": found}) if found else _nothing(subject)


def agreement(subject: Subject) -> Score:
    """Spearman correlation of motion in the picture with the robot's speed; the best camera's.

    Low where cameras are swapped, or pictures belong to another moment or another episode.
    """
    signals = subject.signals
    if signals is None:
        return missing("no motion to read")
    found: dict[str, float] = {}
    for camera, footage in subject.footage.items():
        if len(footage.luma) < 8:
            continue
        speed = np.interp(footage.t_ns, signals.even_ns, signals.speed)
        moved = flow(footage)
        if np.ptp(moved) > 1e-6 and np.ptp(speed) > 1e-9:
            found[camera] = spearman(moved, (speed[1:] + speed[:-1]) / 2)
    return Score(max(found.values()), {"cameras": found}) if found else _nothing(subject)


def flow(footage: Footage) -> F64:
    """Mean length of the optical flow (Farneback) between pictures, float64[n - 1], pixels of the scaled picture per second."""
    import cv2

    pictures = np.clip(footage.luma, 0, 255).astype(np.uint8)
    seconds = np.maximum(np.diff(footage.t_ns) / SECOND, 1e-9)
    moved = [
        float(np.linalg.norm(cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 2, 9, 2, 5, 1.1, 0), axis=-1).mean())  # pyright: ignore[reportArgumentType, reportCallIssue]
        for a, b in pairwise(pictures)
    ]
    return np.array(moved) / seconds


def spearman(a: F64, b: F64) -> float:
    """Rank correlation; ties share their mean rank. 0 where one side does not vary."""
    x, y = centred_ranks(a), centred_ranks(b)
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 0 else 0.0


def centred_ranks(values: F64) -> F64:
    """Return ranks around 0; ties share their mean rank."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[inverse] - (len(values) + 1) / 2


def _frozen(subject: Subject, footage: Footage) -> float:
    """Longest run of one picture, counting only the seconds in which the robot moves."""
    same = np.abs(np.diff(footage.luma, axis=0)).mean((1, 2)) < SAME
    same &= footage.luma[1:].std((1, 2)) >= FLAT  # a blank camera is a matter of exposure
    if not same.any():
        return 0.0
    seconds = np.diff(footage.t_ns) / SECOND
    if subject.signals is not None:
        speed = np.interp(footage.t_ns, subject.signals.even_ns, subject.signals.speed)
        moving = speed > MOVING * float(np.quantile(speed, 0.99))
        seconds = seconds * (moving[1:] | moving[:-1])
    first, length = runs(changes(same))
    return max(float(seconds[a : a + n].sum()) for a, n in zip(first, length, strict=True) if same[a])


def _nothing(subject: Subject) -> Score:
    if subject.unreadable:
        camera, why = next(iter(subject.unreadable.items()))
        return missing(f"camera {camera} cannot be decoded: {why}")
    return missing("no pictures to measure")
