"""What quality scores read of an episode: how it moves on an even clock, what it was told to do, and its grippers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.contract import Feature
from transforms.grid import SECOND
from transforms.lint.base import Evidence, representation
from transforms.rotation import F64

I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
FLOOR = 0.1  # of the median span: a number that hardly moves is not blown up
IDLE = 0.02  # of the 99th percentile of speed
NO_OP = 1e-4  # norm of a delta action that asks for nothing (OpenVLA's filter)


@dataclass(frozen=True, slots=True)
class Grip:
    """A gripper's opening over the steps, float64[T] in 0 (closed) to 1 (open)."""

    name: str
    opening: F64


@dataclass(frozen=True, slots=True)
class Signals:
    """One episode's motion.

    Attributes:
        hz: rate of the even clock.
        t_ns: int64[T] step times.
        even_ns: int64[G] the even clock.
        position: float64[T, D] numbers that tell where the robot is, each over its span in the episode.
        path: float64[G, D] the same on the even clock.
        velocity: float64[G, D] its derivative, spans per second.
        speed: float64[G] the norm of that.
        grips: every gripper.
    """

    hz: float
    t_ns: I64
    even_ns: I64
    position: F64
    path: F64
    velocity: F64
    speed: F64
    grips: tuple[Grip, ...]

    @property
    def idle(self) -> BOOL:
        """bool[G]: nearly no motion, no gripper moving."""
        if not len(self.speed):
            return np.zeros(0, bool)
        still = self.speed <= IDLE * max(float(np.quantile(self.speed, 0.99)), 1e-12)
        for grip in self.grips:
            change = np.abs(np.gradient(np.interp(self.even_ns, self.t_ns, grip.opening)))
            still &= change * self.hz < 0.05
        return still


def read_signals(it: Evidence) -> Signals | None:
    """Read an episode's motion from its state, or from its absolute actions; None where neither tells of any, or in under 4 steps."""
    if it.count < 4:
        return None
    values = read_numbers(it)
    if not values.shape[1] or not np.ptp(values, axis=0).any():
        return None
    position = values / spans(values)
    t_ns = it.t_ns
    period = max(float(np.median(np.diff(t_ns))), 1.0)
    even = (t_ns[0] + np.arange(int((t_ns[-1] - t_ns[0]) / period + 1e-6) + 1) * period).astype(np.int64)
    path = np.stack([np.interp(even, t_ns, column) for column in position.T], 1)
    if len(even) < 4:
        return None
    velocity = np.gradient(path, axis=0) * (SECOND / period)
    return Signals(SECOND / period, t_ns, even, position, path, velocity, np.linalg.norm(velocity, axis=1), read_grips(it))


def read_numbers(it: Evidence) -> F64:
    """Return the numbers that tell where the robot is, float64[T, D], without grippers: the state, else absolute actions."""
    features = [f for f in it.states if f.role != "gripper"]
    if not features and it.action is not None and representation(it.action) in ("absolute", None):
        features = [it.action]
    columns = [it.values(f)[:, motion_dims(f)] for f in features]
    return np.nan_to_num(np.concatenate(columns, 1)) if columns else np.zeros((it.count, 0))


def spans(values: F64) -> F64:
    """Return the range of each column of float64[T, D] from its 1st to its 99th percentile, and at least a tenth of the median."""
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    span = np.maximum(high - low, 0.25 * np.ptp(values, axis=0))
    moving = span[span > 1e-9]
    return np.maximum(span, FLOOR * float(np.median(moving)) if len(moving) else 1.0)


def motion_dims(feature: Feature) -> list[int]:
    """Return the numbers of a feature that are not a gripper's."""
    grips = set(grip_dims(feature))
    return [i for i in range(feature.size) if i not in grips]


def grip_dims(feature: Feature) -> list[int]:
    """Return the numbers of a feature that are a gripper's."""
    return [i for start, stop, *_ in _grip_places(feature) for i in range(start, stop)]


def read_grips(it: Evidence) -> tuple[Grip, ...]:
    """Return every gripper of the state, or of the action where the state has none."""
    for features in (it.states, [it.action] if it.action is not None else []):
        found: list[Grip] = []
        for feature in features:
            for start, stop, closed, opened in _grip_places(feature):
                mean = np.nan_to_num(it.values(feature)[:, start:stop]).mean(1)
                low, high = (closed, opened) if closed is not None and opened is not None else (mean.min(), mean.max())
                scale = high - low
                opening = (mean - low) / scale if abs(scale) > 1e-9 else np.ones_like(mean)
                found.append(Grip(f"{feature.name}[{start}]", np.clip(opening, 0.0, 1.0)))
        if found:
            return tuple(found)
    return ()


def _grip_places(feature: Feature) -> list[tuple[int, int, float | None, float | None]]:
    """Return `(start, stop, closed, opened)` of each gripper inside a feature: declared parts, else names."""
    declared = [(p.start, p.stop, p.gripper_closed, p.gripper_open) for p in feature.parts if p.role == "gripper"]
    if declared:
        return declared
    if feature.role == "gripper":
        return [(0, feature.size, None, None)]
    words = ("gripper", "grip")
    named = [i for i, n in enumerate(feature.names) if any(w in n.lower() for w in words)]
    return [(i, i + 1, None, None) for i in named] if len(feature.names) == feature.size else []
