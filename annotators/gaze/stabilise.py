"""Does gaze ride on the picture? While the eye rests on a thing and the head turns, the point of gaze moves as the picture does there.

That gives every recording with pictures a check of its own clock and axes, with no labels: the correlation of the two motions over a shift
in time must be highest at no shift, and it is negative or absent where gaze is mirrored, turned, or from another time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.clips import Clip
from annotators.gaze.samples import Samples
from transforms.grid import I64, SECOND
from transforms.optical_flow import dense_flow, grey
from transforms.rotation import F64
from transforms.spread import spread

MOST_PAIRS = 200  # per episode
WINDOW = 0.06  # of the picture's width around the point, either way
LONGEST_S = 0.2  # between two pictures
SHIFTS_MS = np.arange(-200, 201, 10)


@dataclass(frozen=True, slots=True)
class Ride:
    """Sums of one episode over its pairs of pictures, per shift: float64[S]. Correlation is `both / sqrt(picture * gaze)`.

    Attributes:
        both: of the products of the two motions.
        picture: of the squared motion of the picture at the point of gaze.
        gaze: of the squared motion of gaze.
        pairs: int64[S], how many pairs.
    """

    both: F64
    picture: F64
    gaze: F64
    pairs: I64


@dataclass(frozen=True, slots=True)
class PictureMotion:
    """How one episode's pictures move.

    Attributes:
        start_ns: int64[P], when the first picture of each pair is shown.
        stop_ns: int64[P], when the second one is.
        flow: float32[P, H, W, 2], to where each pixel of the first went, in pixels.
    """

    start_ns: I64
    stop_ns: I64
    flow: npt.NDArray[np.float32]


def picture_motion(clip: Clip, wanted: I64 | None = None) -> PictureMotion:
    """Measure motion between pictures that follow each other closely, at most `MOST_PAIRS`, evenly spread.

    Args:
        clip: small pictures.
        wanted: pictures to begin with, int64[K]; None: all.
    """
    near = np.flatnonzero(np.diff(clip.t_ns) <= LONGEST_S * SECOND) if len(clip) > 1 else np.empty(0, np.int64)
    near = near if wanted is None else np.intersect1d(near, wanted)
    pairs = near[spread(len(near), MOST_PAIRS)] if len(near) else near
    flow = np.zeros((len(pairs), *clip.pictures.shape[1:3], 2), np.float32)
    for row, at in enumerate(pairs.tolist()):
        flow[row] = dense_flow(grey(clip.pictures[at]), grey(clip.pictures[at + 1]))
    return PictureMotion(clip.t_ns[pairs], clip.t_ns[pairs + 1], flow)


def in_fixations(clip: Clip, samples: Samples) -> I64:
    """Return the pictures shown while the eye rested, int64[K]."""
    return np.flatnonzero(_at(samples, clip.t_ns, 0)[1] >= 0) if len(samples) else np.empty(0, np.int64)


def ride(motion: PictureMotion, samples: Samples) -> Ride:
    """Compare the motion of gaze, inside fixations, with that of the picture around it."""
    sums = np.zeros((4, len(SHIFTS_MS)))
    if len(motion.start_ns) and len(samples) > 1:
        point, resting = _at(samples, motion.start_ns, 0)
        moved = _under(motion.flow, point)
        for at, shift in enumerate(SHIFTS_MS.tolist()):
            before, first = _at(samples, motion.start_ns, shift)
            after, second = _at(samples, motion.stop_ns, shift)
            keep = (first >= 0) & (first == second) & (resting >= 0) & np.isfinite(moved).all(1)
            gaze, picture = (after - before)[keep], moved[keep]
            sums[:, at] = (gaze * picture).sum(), (picture**2).sum(), (gaze**2).sum(), keep.sum()
    return Ride(sums[0], sums[1], sums[2], sums[3].astype(np.int64))


def correlation(rides: list[Ride], draws: F64 | None = None) -> F64:
    """Return the correlation per shift of episodes together, float64[S]; with `draws` float64[R, E], float64[R, S]."""
    weight = np.ones((1, len(rides))) if draws is None else draws
    both, picture, gaze = (weight @ np.stack([getattr(r, n) for r in rides]) for n in ("both", "picture", "gaze"))
    below = np.sqrt(picture * gaze)
    found = np.where(below > 0, both / np.where(below > 0, below, 1.0), 0.0)
    return found[0] if draws is None else found


def peak_ms(curve: F64) -> F64:
    """Return the shift in milliseconds of the highest correlation, between two tried shifts by a parabola; float64[...] of [..., S]."""
    best = np.clip(curve.argmax(-1), 1, curve.shape[-1] - 2)
    left, top, right = (np.take_along_axis(curve, (best + o)[..., None], -1)[..., 0] for o in (-1, 0, 1))
    bend = left - 2 * top + right
    offset = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    step = float(SHIFTS_MS[1] - SHIFTS_MS[0])
    return SHIFTS_MS[0] + step * (best + np.clip(offset, -1, 1))


def _under(flow: npt.NDArray[np.float32], xy: F64) -> F64:
    """Return the median motion around points, float64[P, 2] as shares of width and height; NaN for points outside."""
    height, width = flow.shape[1:3]
    half, found = max(2, round(WINDOW * width)), np.full((len(flow), 2), np.nan)
    for row, (x, y) in enumerate(xy.tolist()):
        if 0 <= x <= 1 and 0 <= y <= 1:
            u, v = min(int(x * width), width - 1), min(int(y * height), height - 1)
            box = flow[row, max(v - half, 0) : v + half + 1, max(u - half, 0) : u + half + 1]
            found[row] = np.median(box.reshape(-1, 2), axis=0) / (width, height)
    return found


def _at(samples: Samples, t_ns: I64, shift_ms: int) -> tuple[F64, I64]:
    """Return points float64[T, 2], shares of the picture, and the fixation of the instant, int64[T] (-1: none).

    Between two samples of one fixation the point is interpolated: the eye rests.
    """
    when = t_ns + shift_ms * (SECOND // 1000)
    right = np.clip(np.searchsorted(samples.t_ns, when), 1, max(len(samples) - 1, 1))
    left = right - 1
    span = samples.t_ns[right] - samples.t_ns[left]
    weight = np.clip((when - samples.t_ns[left]) / np.maximum(span, 1), 0, 1)[:, None]
    point = samples.xy[left] * (1 - weight) + samples.xy[right] * weight
    inside = (when >= samples.t_ns[0]) & (when <= samples.t_ns[-1])
    same = inside & (samples.fixation[left] == samples.fixation[right])
    return point, np.where(same & np.isfinite(point).all(1), samples.fixation[left], -1).astype(np.int64)
