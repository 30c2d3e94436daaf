"""Reads what moves, episode by episode, onto the even clock on which boundaries are placed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.motion.read import integral, read_slots, step_column
from annotators.motion.source import FULL_SCALE, MotionSource, Slot
from annotators.motion.things import object_places
from annotators.segments.config import SegmentsConfig
from schemas.contract import Contract
from transforms.grid import BOOL, Grid, make_grid, smooth, smooth_rotation
from transforms.rotation import F64, as_quat, conjugate, log, multiply

LEVER_M = 0.2  # a rotation or joint moves what it holds as if it sat this far out
FINE = 3  # samples of the clock signals are smoothed on, per sample of the clock of boundaries
MAX_GAP_S = 0.5
REASONS = (None, "clock_gap", "non_finite_input", "unit_implausible")
_TOUCH = re.compile(r"force|torque|wrench|contact|touch|tactile", re.IGNORECASE)
_TURNING = re.compile(r"wrist|forearm", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limb:
    """One arm, or one side's joints.

    Attributes:
        who: empty where there is only one.
        path: float64[D, T] what is cut, in units of the misfit that costs 1.
        place: float64[3, T] metres, or None where only joints are known.
        speed: float64[T] m/s of its translation (of its gross joints, by their lever).
        turn: float64[T] rad/s of its rotation (of its wrist joints).
        opening: float64[T] of its gripper, 1 open, or None.
    """

    who: str
    path: F64
    place: F64 | None
    speed: F64
    turn: F64
    opening: F64 | None

    @property
    def pace(self) -> F64:
        """Speed of everything, m/s: float64[T]."""
        return self.speed + LEVER_M * self.turn

    def part(self, samples: slice) -> "Limb":
        """Return some of its samples."""
        place = None if self.place is None else self.place[:, samples]
        opening = None if self.opening is None else self.opening[samples]
        return Limb(self.who, self.path[:, samples], place, self.speed[samples], self.turn[samples], opening)


@dataclass(frozen=True, slots=True)
class Track:
    """One episode on the clock of boundaries.

    Attributes:
        limbs: what moves.
        things: where objects are, float64[3, T], by name; only in simulation.
        touch: float64[K, T] forces and contacts.
        reason: int8[T] index into `REASONS`.
    """

    limbs: tuple[Limb, ...]
    things: dict[str, F64]
    touch: F64
    reason: np.ndarray

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.reason)

    def part(self, samples: slice) -> "Track":
        """Return some of its samples, as a track of its own."""
        limbs = tuple(limb.part(samples) for limb in self.limbs)
        things = {name: place[:, samples] for name, place in self.things.items()}
        return Track(limbs, things, self.touch[:, samples], self.reason[samples])


def touch_columns(contract: Contract, config: SegmentsConfig) -> tuple[str, ...]:
    """Name the step columns that hold forces or contacts."""
    kinds = [f for f in contract.features if f.dtype.startswith(("float", "bool")) and f.role not in ("action", "reward")]
    return tuple(f.name for f in kinds if _TOUCH.search(f.name) and (config.privileged or not f.privileged))


def read_tracks(batch: Batch, source: MotionSource, config: SegmentsConfig) -> Iterator[Track]:
    """Yield one track per episode."""
    grid = make_grid(batch.t_ns, batch.starts, config.hz * FINE, MAX_GAP_S)
    values, finite, plausible = read_slots(batch, source)
    width = round(config.smooth_s * grid.rate_hz) // 2 * 2 + 1
    limbs = [*_arms(batch, source, values, grid, width, config), *_sides(source, values, grid, width, config)]
    things = object_places(batch) if config.privileged else {}
    on_grid = {name: grid.linear(place) for name, place in things.items()}
    columns = [step_column(batch.steps.column(c)) for c in touch_columns(batch.contract, config) if c in batch.steps.column_names]
    touch = grid.linear(np.concatenate(columns)) if columns else np.zeros((0, grid.size))
    reason = _reasons(grid, finite, width)
    for at in range(len(batch.episodes)):
        pick = slice(int(grid.starts[at]), int(grid.starts[at + 1]), FINE)
        mine = reason[pick] if plausible[at] else np.full(len(reason[pick]), 3, np.int8)
        yield Track(
            tuple(limb.part(pick) for limb in limbs),
            {n: p[:, pick] for n, p in on_grid.items() if np.isfinite(p[:, pick]).all()},
            touch[:, pick],
            mine,
        )


def _arms(
    batch: Batch, source: MotionSource, values: dict[Slot, F64], grid: Grid, width: int, config: SegmentsConfig
) -> Iterator[Limb]:
    for arm in source.arms:
        p = smooth(grid.linear(integral(arm.position, values, batch)), grid.starts, width)
        turned = np.zeros((3, grid.size))
        if arm.rotation is not None and arm.rotation.representation == "absolute":
            assert arm.rotation.rotation is not None
            q = smooth_rotation(grid.spherical(as_quat(values[arm.rotation], arm.rotation.rotation)), grid.starts, width)
            turned = _summed(log(multiply(conjugate(q[:, :-1]), q[:, 1:])), grid)
        elif arm.rotation is not None:
            turned = smooth(grid.linear(integral(arm.rotation, values, batch)), grid.starts, width)
        opening = None if arm.gripper is None else grid.linear(values[arm.gripper].mean(0)[None])[0]
        known = arm.position.unit != FULL_SCALE
        path = np.concatenate([p / config.misfit_m if known else p / 0.2, turned / config.misfit_rad])
        speed = _rate(p, grid) if known else _rate(p, grid) * 0.2  # a command of full scale passes for 20 cm/s
        yield Limb(arm.who, path, p if known else None, speed, _rate(turned, grid), opening)


def _sides(source: MotionSource, values: dict[Slot, F64], grid: Grid, width: int, config: SegmentsConfig) -> Iterator[Limb]:
    """Joints by side: wrists turn, the others carry the hand about."""
    if source.joint_slot is None:
        return
    q = smooth(grid.linear(values[source.joint_slot]), grid.starts, width)
    sides = list(dict.fromkeys(j.side for j in source.joints))
    for side in sides:
        rows = [i for i, j in enumerate(source.joints) if j.side == side]
        wrist = [i for i in rows if _TURNING.search(source.joints[i].name)]
        gross = [i for i in rows if i not in wrist]
        hand = next((h for h in source.hands if h.who.startswith(side) or len(sides) == 1), None)
        opening = None if hand is None else grid.linear(values[hand.slot].mean(0)[None])[0]
        path = q[rows] / config.misfit_rad
        yield Limb(f"{side} arm" if side else "", path, None, LEVER_M * _rate(q[gross], grid), _rate(q[wrist], grid), opening)


def _rate(x: F64, grid: Grid) -> F64:
    """Length of the derivative of float64[D, G], per second, by central differences inside each episode."""
    total = np.zeros(grid.size)
    if not len(x):
        return total
    here = np.arange(grid.size)
    lengths = np.diff(grid.starts)
    before = np.maximum(here - 1, np.repeat(grid.starts[:-1], lengths))
    after = np.minimum(here + 1, np.repeat(grid.starts[1:] - 1, lengths))
    step = np.take(x, after, 1) - np.take(x, before, 1)
    for row in step:
        total += row * row
    return np.sqrt(total) * grid.rate_hz / np.maximum(after - before, 1)


def _summed(steps: F64, grid: Grid) -> F64:
    """Sum small rotation vectors float64[3, G - 1] to a path that starts at zero in each episode."""
    path = np.zeros((3, grid.size))
    for a, b in zip(grid.starts[:-1].tolist(), grid.starts[1:].tolist(), strict=True):
        np.cumsum(steps[:, a : b - 1], axis=1, out=path[:, a + 1 : b])
    return path


def _reasons(grid: Grid, finite: BOOL, width: int) -> np.ndarray:
    """Why a sample cannot be used, int8[G]; holes reach as far as the filter."""
    reason = np.where(grid.gap, 1, 0).astype(np.int8)
    holes = ~finite[grid.left] | (~finite[grid.right] & (grid.weight > 0))
    if holes.any():
        count = np.concatenate([[0], np.cumsum(holes)])
        lengths = np.diff(grid.starts)
        low = np.maximum(np.arange(grid.size) - width // 2, np.repeat(grid.starts[:-1], lengths))
        high = np.minimum(np.arange(grid.size) + width // 2 + 1, np.repeat(grid.starts[1:], lengths))
        reason[count[high] > count[low]] = 2
    return reason
