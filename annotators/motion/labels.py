"""From step columns to one motion code per step: reads the signals of a `MotionSource`, applies the rule, keeps the evidence."""

from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.motion.read import integral, read_slots
from annotators.motion.source import FULL_SCALE, Arm, MotionSource, Slot
from schemas.contract import Contract
from transforms.ecot import ecot_codes
from transforms.grid import BOOL, Grid, make_grid, smooth, smooth_rotation
from transforms.motion import (
    FREE,
    I8,
    RateRule,
    Thresholds,
    Windows,
    angular_velocities,
    body_velocities,
    clean,
    decide,
    differences,
    fold_base,
    make_windows,
    margins,
    needs,
    velocities,
)  # fmt: skip
from transforms.motion_text import POSE_WORDS, Axis, AxisKind, FrameRef
from transforms.rotation import F64, apply, as_quat, from_euler, to_euler

REASONS = (None, "horizon_past_end", "clock_gap", "non_finite_input", "unit_implausible", "near_threshold")
_PAST_END, _GAP, _NON_FINITE, _IMPLAUSIBLE, _NEAR = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Frame:
    """The axes in which motion is told: `turn` float64[3, 3] takes the contract's frame to them, `ref` names them."""

    ref: FrameRef
    turn: F64


@dataclass(frozen=True, slots=True)
class StepLabels:
    """A motion code per step, and what it rests on.

    Attributes:
        axes: what each row of `code` means.
        frame_ref: the frame of the pose axes; `joint` where there are none.
        code: int8[A, T].
        rate: float64[A, T] speed per axis (m/s, rad/s, opening per window); NaN where the rule has none.
        margin: float64[T] distance to the nearest threshold, relative to it; NaN where the rule has none.
        on: float64[A] thresholds.
        reason: int8[T] index into `REASONS`; 0 is valid.
    """

    axes: tuple[Axis, ...]
    frame_ref: str
    code: I8
    rate: F64
    margin: F64
    on: F64
    reason: I8

    def changes(self, batch: Batch) -> BOOL:
        """Mark where the code or the reason differs from the step before, and where an episode begins: bool[T]."""
        changed = np.ones(len(self.reason), bool)
        changed[1:] = (self.code[:, 1:] != self.code[:, :-1]).any(0) | (self.reason[1:] != self.reason[:-1])
        changed[batch.starts[:-1]] = True
        return changed


@dataclass(slots=True)
class _Channels:
    """Axes and their rates, as they are collected."""

    axes: list[Axis]
    rates: list[F64]
    on: list[float]
    group: list[int]
    off: list[float]

    def add(self, axes: list[Axis], rates: F64, on: float, group: int, off: float) -> None:
        self.axes += axes
        self.rates.append(rates)
        self.on += [on] * len(axes)
        self.group += [group] * len(axes)
        self.off += [off] * len(axes)


def rate_labels(batch: Batch, source: MotionSource, frame: Frame, rule: RateRule) -> StepLabels:
    """Label every step of `batch` with the `rate` rule."""
    grid = make_grid(batch.t_ns, batch.starts, rule.rate_hz, rule.max_gap_s)
    windows = make_windows(grid, rule)
    values, finite, plausible = read_slots(batch, source)
    found = _Channels([], [], [], [], [])
    for at, arm in enumerate(source.arms):
        _arm(found, arm, values, batch, grid, windows, frame, rule, 2 * at)
    _joint_axes(found, source, values, grid, windows, rule)
    _base_axes(found, source, values, grid, windows, rule)

    rates = np.concatenate(found.rates)
    reason = _grid_reasons(grid, windows, finite, rule)
    limits = Thresholds(np.array(found.on), np.array(found.group), np.array(found.off), rule.share)
    need = needs(rates, limits)
    signs = decide(rates, need, limits, grid.starts, reason == 0)
    signs = clean(signs, grid.starts, min_samples=_at_least(rule.min_s, rule), merge_samples=_at_least(rule.merge_s, rule))
    margin = margins(rates, need, limits.off, signs, grid.starts)

    reason = reason[grid.sample]
    margin = margin[grid.sample]
    reason[(reason == 0) & (margin < rule.min_margin)] = _NEAR
    reason[np.repeat(~plausible, np.diff(batch.starts))] = _IMPLAUSIBLE
    code, rate = np.take(signs, grid.sample, 1), np.take(rates, grid.sample, 1)
    axes, code, rate, on = _fold(found, code, rate, limits.on, bool(source.arms))
    ref: str = _told(source, frame) if source.arms else "joint"
    return StepLabels(tuple(axes), ref, np.where(reason == 0, code, np.int8(0)), rate, margin, on, reason)


def ecot_labels(batch: Batch, source: MotionSource, rule: RateRule) -> StepLabels:
    """Label every step as ECoT would, in the contract's own axes. `source` has one arm, told in absolute poses.

    The thresholds of `rule` are only kept for evaluation; ECoT has its own.
    """
    arm, (values, finite, plausible) = source.arms[0], read_slots(batch, source)
    state = np.zeros((7, batch.steps.num_rows))
    state[:3] = values[arm.position]
    if arm.rotation is not None and arm.rotation.rotation is not None:
        stored = values[arm.rotation]
        state[3:6] = stored if arm.rotation.rotation == "euler_xyz" else to_euler(as_quat(stored, arm.rotation.rotation))
    if arm.gripper is not None:
        state[6] = values[arm.gripper].mean(0)
    code = np.zeros((8, batch.steps.num_rows), np.int8)
    code[:7] = ecot_codes(np.nan_to_num(state), batch.starts)
    reason = np.where(finite, 0, _NON_FINITE).astype(np.int8)
    reason[np.repeat(~plausible, np.diff(batch.starts))] = _IMPLAUSIBLE
    nothing = np.full(batch.steps.num_rows, np.nan)
    on = np.array([rule.v_on] * 3 + [rule.w_on] * 3 + [rule.grip_on, 1.0])
    return StepLabels((*pose_axes("", "base"), _BASE), "base", code, np.tile(nothing, (8, 1)), nothing, on, reason)


def pose_axes(who: str, ref: FrameRef) -> tuple[Axis, ...]:
    """Return the seven axes of one arm: three translations, three rotations, gripper."""
    prefix = f"{who.removesuffix(' arm').replace(' ', '_')}." if who else ""
    kinds: tuple[AxisKind, ...] = ("translation",) * 3 + ("rotation",) * 3
    named = [
        Axis(prefix + n, k, who, w) for n, k, w in zip(("x", "y", "z", "rx", "ry", "rz"), kinds, POSE_WORDS[ref], strict=True)
    ]
    return (*named, Axis(f"{prefix}grip", "gripper", who.replace("arm", "gripper"), ("close", "open")))


def make_frame(
    contract: Contract, source: MotionSource, ref: FrameRef, camera: str | None, user: tuple[float, ...]
) -> Frame | str:
    """Return the frame motion is told in, or the reason why it cannot be: `no_extrinsics`, `no_rotation`.

    Base axes are turned to x forward, y left, z up where the contract's frame says how they lie, as in `base:rfu` (x right,
    y forward, z up).
    """
    if not source.arms:
        return Frame("base", np.eye(3))
    if ref == "ee":
        return "no_rotation" if any(a.rotation is None for a in source.arms) else Frame("ee", np.eye(3))
    if ref == "user":
        return Frame("user", np.array(user, np.float64).reshape(3, 3).T)
    if ref == "camera":
        known = [c for c in contract.cameras if c.extrinsics and camera in (None, c.name)]
        if not known:
            return "no_extrinsics"
        return Frame("camera", np.array(known[0].extrinsics, np.float64).reshape(4, 4)[:3, :3].T)
    return Frame("base", _forward_left_up(source.arms[0].position.frame))


_BASE = Axis("base", "base", "base")
_DIRECTIONS = {"f": (1, 0, 0), "b": (-1, 0, 0), "l": (0, 1, 0), "r": (0, -1, 0), "u": (0, 0, 1), "d": (0, 0, -1)}


def _forward_left_up(name: str | None) -> F64:
    _, _, axes = (name or "").rpartition(":")
    if len(axes) != 3 or not set(axes.lower()) <= set(_DIRECTIONS):
        return np.eye(3)
    turn = np.array([_DIRECTIONS[a] for a in axes.lower()], np.float64).T
    return turn if np.linalg.det(turn) > 0.5 else np.eye(3)


def _told(source: MotionSource, frame: Frame) -> FrameRef:
    """Deltas that the contract gives in the end effector's own axes stay there: without a pose they cannot be turned."""
    own = any(a.position.frame == "ee" and a.position.representation != "absolute" for a in source.arms)
    return "ee" if own else frame.ref


def _arm(
    found: _Channels,
    arm: Arm,
    values: dict[Slot, F64],
    batch: Batch,
    grid: Grid,
    windows: Windows,
    frame: Frame,
    rule: RateRule,
    group: int,
) -> None:
    own = arm.position.frame == "ee" and arm.position.representation != "absolute"
    p = smooth(grid.linear(integral(arm.position, values, batch)), grid.starts, rule.smooth_samples)
    axes = pose_axes(arm.who, "ee" if own else frame.ref)
    turn = np.eye(3) if own or frame.ref == "ee" else frame.turn
    q = None
    if arm.rotation is None:
        linear, angular = velocities(p, windows), np.zeros((3, grid.size))
    elif arm.rotation.representation == "absolute":
        assert arm.rotation.rotation is not None
        q = as_quat(values[arm.rotation], arm.rotation.rotation)
        q = smooth_rotation(grid.spherical(q), grid.starts, rule.smooth_samples)
        angular = angular_velocities(q, windows)
        linear = body_velocities(p, q, windows) if frame.ref == "ee" else velocities(p, windows)
        angular = angular if frame.ref == "ee" else apply(q, angular)
    else:  # small turns add up as vectors
        linear = velocities(p, windows)
        angular = velocities(
            smooth(grid.linear(integral(arm.rotation, values, batch)), grid.starts, rule.smooth_samples), windows
        )
    v_on = rule.command_on if arm.position.unit == FULL_SCALE else rule.v_on
    w_on = rule.command_on if arm.rotation is not None and arm.rotation.unit == FULL_SCALE else rule.w_on
    found.add(list(axes[:3]), _turned(turn, linear), v_on, group, rule.off)
    found.add(list(axes[3:6]), _turned(turn, angular), w_on, group + 1, rule.off)
    grip = np.zeros((1, grid.size))
    if arm.gripper is not None:
        grip = differences(smooth(grid.linear(values[arm.gripper].mean(0)[None]), grid.starts, rule.smooth_samples), windows)
    found.add(list(axes[6:]), grip, rule.grip_on, FREE, 1.0)


def _joint_axes(
    found: _Channels, source: MotionSource, values: dict[Slot, F64], grid: Grid, windows: Windows, rule: RateRule
) -> None:
    """Joints compete for their share within a limb, so that one arm's motion never hides the other's."""
    if source.joint_slot is not None:
        limbs = list(dict.fromkeys((j.side, j.limb) for j in source.joints))
        q = smooth(grid.linear(values[source.joint_slot]), grid.starts, rule.smooth_samples)
        rates = velocities(q, windows)
        for joint, rate in zip(source.joints, rates, strict=True):
            axis = Axis(joint.label.replace(" ", "_"), "joint", joint.label, joint.words)
            found.add([axis], rate[None], rule.w_on, limbs.index((joint.side, joint.limb)), rule.off)
    for hand in source.hands:
        opening = smooth(grid.linear(values[hand.slot].mean(0)[None]), grid.starts, rule.smooth_samples)
        axis = Axis(hand.who.replace(" ", "_"), "gripper", hand.who, ("close", "open"))
        found.add([axis], differences(opening, windows), rule.grip_on, FREE, 1.0)


def _base_axes(
    found: _Channels, source: MotionSource, values: dict[Slot, F64], grid: Grid, windows: Windows, rule: RateRule
) -> None:
    """A base's forward, left and turning rates, in its own axes."""
    if source.base is None:
        return
    pose = values[source.base]
    zero = np.zeros((1, pose.shape[1]))
    place = pose[:3] if len(pose) == 7 else np.concatenate([pose[:2], zero])
    q = (
        as_quat(pose[3:], source.base.rotation or "quat_wxyz")
        if len(pose) == 7
        else from_euler(np.concatenate([zero, zero, pose[2:]]))
    )
    p = smooth(grid.linear(place), grid.starts, rule.smooth_samples)
    q = smooth_rotation(grid.spherical(q), grid.starts, rule.smooth_samples)
    rates = np.stack([*body_velocities(p, q, windows)[:2], angular_velocities(q, windows)[2]])
    found.add([_BASE] * 2, rates[:2], rule.base_v_on, FREE, rule.off)
    found.add([_BASE], rates[2:], rule.base_w_on, FREE, rule.off)


def _fold(found: _Channels, code: I8, rate: F64, on: F64, arms: bool) -> tuple[list[Axis], I8, F64, F64]:
    """Fold the base's three axes into one; arms always have a base axis, so that the code of one arm is int8[8]."""
    plain = [i for i, a in enumerate(found.axes) if a.kind != "base"]
    wheels = [i for i, a in enumerate(found.axes) if a.kind == "base"]
    axes = [found.axes[i] for i in plain]
    if wheels:
        sign, speed = fold_base(code[wheels], rate[wheels], on[wheels])
        return (
            [*axes, _BASE],
            np.concatenate([code[plain], sign]),
            np.concatenate([rate[plain], speed]),
            np.append(on[plain], on[wheels[0]]),
        )
    if not arms:
        return axes, code, rate, on
    blank = np.zeros((1, code.shape[1]))
    return [*axes, _BASE], np.concatenate([code, blank.astype(np.int8)]), np.concatenate([rate, blank]), np.append(on, 1.0)


def _turned(turn: F64, v: F64) -> F64:
    """Rotate float64[3, N] row by row; a matrix product would round differently for different N."""
    return np.stack([row[0] * v[0] + row[1] * v[1] + row[2] * v[2] for row in turn])


def _grid_reasons(grid: Grid, windows: Windows, finite: BOOL, rule: RateRule) -> I8:
    reason = np.where(windows.past_end, _PAST_END, 0).astype(np.int8)
    reach = rule.smooth_samples // 2
    if grid.gap.any():
        reason[windows.touch(grid.gap, grid, reach)] = _GAP
    if not finite.all():
        holes = ~finite[grid.left] | (~finite[grid.right] & (grid.weight > 0))
        reason[windows.touch(holes, grid, reach)] = _NON_FINITE
    return reason


def _at_least(seconds: float, rule: RateRule) -> int:
    """Samples that last at least `seconds`."""
    return int(np.ceil(seconds * rule.rate_hz - 1e-9))
