"""One trace of one episode: the few points a model draws, and the few poses a controller follows."""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from annotators.traces.hand import Hand
from annotators.traces.views import View
from transforms.codec.spline import through
from transforms.codec.waypoints import rebuild, simplify
from transforms.polyline import Sampling, choose_points
from transforms.rotation import F64, from_matrix, multiply

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn trace.

    Attributes:
        points: uint8[n, 2], x and y in 255ths of the picture's width and height; the first is where the tip is now.
        visible: bit i set: point i lies inside the picture. Others are clipped to its edge.
        grip: int8[n]: -1 where the gripper closes at the point, 1 where it opens.
        places: int64[n] steps.
    """

    points: U8
    visible: int
    grip: npt.NDArray[np.int8]
    places: I64

    def text(self) -> str:
        """Return the trace as JSON, the form it has in LeRobot's language columns."""
        body = {"type": "trace", "range": 255, "points": self.points.tolist()}
        if self.grip.any():
            body["gripper"] = [{"point": i, "event": "close" if g < 0 else "open"} for i, g in enumerate(self.grip.tolist()) if g]
        return json.dumps(body, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Waypoints:
    """Sparse poses of a stretch.

    Attributes:
        poses: float32[n, 8]: xyz metres, quaternion wxyz (1 0 0 0 where unknown), opening (NaN where unknown, said as -1).
        seconds: float32[n] after the first.
        curve: what to draw through them: `spline`, a clamped cubic one, or `linear`; whichever misses the steps by less.
        rmse_m: its error against every step.
        max_m: its largest error.
        places: int64[n] steps after the first.
    """

    poses: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float32]
    curve: Literal["spline", "linear"]
    rmse_m: float
    max_m: float
    places: I64


def draw(view: View, tip: F64, hand: Hand, steps: slice, seconds: F64, how: Sampling, most: int, tolerance: float) -> Line | str:
    """Draw the trace from the first to the last step of `steps`.

    Args:
        view: the camera.
        tip: float64[3, T] of the episode.
        hand: of the episode.
        steps: of the episode.
        seconds: float64[T] of the episode.
        how: how points are chosen.
        most: points at most.
        tolerance: of `rdp`, as a share of the picture's diagonal.

    Returns:
        The trace, or `behind_camera` where the tip has no pixel now.
    """
    pixels, ahead = view.track(tip, steps.start)
    rows = np.arange(steps.start, steps.stop)
    rows = rows[ahead[rows]]
    if not len(rows) or rows[0] != steps.start:
        return "behind_camera"
    size = np.array([view.camera.width, view.camera.height], np.float64)
    track = pixels[:, rows].T
    events = tuple(np.flatnonzero(hand.event[rows]).tolist())
    chosen = choose_points(track, seconds[rows], how, most, events, tolerance * float(np.hypot(*size)))
    points = track[chosen]
    inside = np.flatnonzero(((points >= -0.5) & (points <= size - 0.5)).all(1))
    visible = sum(1 << int(i) for i in inside)
    return Line(quantise(points, size), visible, hand.event[rows[chosen]], rows[chosen])


def quantise(points: F64, size: F64) -> U8:
    """Return pixels as 255ths of the picture, uint8; what lies outside is clipped to the edge."""
    return np.clip(np.rint(255 * points / size), 0, 255).astype(np.uint8)


def waypoints(tip: F64, hand: Hand, steps: slice, seconds: F64, tolerance_m: float, most: int, pose: F64 | None) -> Waypoints:
    """Choose the poses of a stretch, told in the camera's axes where `pose` is known.

    Once by Ramer-Douglas-Peucker for straight lines, once by adding the step a spline misses most; the better of the two is kept.
    """
    rows = np.arange(steps.start, steps.stop)
    track, clock = tip[:, rows].T, seconds[rows] - seconds[rows[0]]
    events = tuple(p for p in np.flatnonzero(hand.event[rows]).tolist() if 0 < p < len(rows) - 1)[: most - 2]
    straight, bent = (
        simplify(track, tolerance_m, clock, most=most, keep=events),
        _for_spline(track, clock, tolerance_m, most, events),
    )
    lines, spline = rebuild(straight, track[straight], len(track), clock), through(clock[bent], track[bent], clock)
    better = _rms(spline - track) < _rms(lines - track)
    chosen, error = (bent, spline - track) if better else (straight, lines - track)
    place, turn = track[chosen].T, None if hand.turn is None else hand.turn[:, rows[chosen]]
    if pose is not None:
        inverse = pose[:3, :3].T
        place = inverse @ (place - pose[:3, 3:])
        if turn is not None:
            turn = multiply(np.tile(from_matrix(inverse[..., None]), (1, turn.shape[1])), turn)
    quaternion = np.tile([[1.0], [0.0], [0.0], [0.0]], (1, len(chosen))) if turn is None else turn
    opening = np.full((1, len(chosen)), -1.0) if hand.opening is None else hand.opening[None, rows[chosen]]
    poses = np.concatenate([place, quaternion, opening]).T.astype(np.float32)
    worst = float(np.linalg.norm(error, axis=1).max())
    return Waypoints(poses, clock[chosen].astype(np.float32), "spline" if better else "linear", _rms(error), worst, chosen)


def _for_spline(track: F64, clock: F64, tolerance: float, most: int, keep: tuple[int, ...]) -> I64:
    """Add the step that the spline through the chosen ones misses most, until none is missed by more than the tolerance."""
    chosen = sorted({0, len(track) - 1, *keep})
    while len(chosen) < most:
        gap = np.linalg.norm(through(clock[chosen], track[chosen], clock) - track, axis=1)
        at = int(np.argmax(gap))
        if gap[at] <= tolerance or at in chosen:
            break
        chosen = sorted({*chosen, at})
    return np.array(chosen, np.int64)


def _rms(error: F64) -> float:
    return float(np.sqrt((error**2).sum(1).mean()))
