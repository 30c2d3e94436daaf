"""Disturbs and measures the input of language motions: other sampling rates, sensor noise, and displacements by another formula.

Everything goes through the step table, as data would, so that whatever turns steps into codes can be probed.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.read import read_slots, step_column
from annotators.motion.source import MotionSource, Slot, find_source
from schemas.contract import Contract, Rotation
from transforms.grid import SECOND, make_grid
from transforms.rotation import F64, as_quat, conjugate, continuous, exp, from_quat, log, multiply, slerp


def is_absolute(source: MotionSource) -> bool:
    """Tell whether every signal is absolute: deltas and velocities belong to the rate they were commanded at."""
    return all(s.representation == "absolute" for s in source.slots)


def resampled(batch: Batch, source: MotionSource, hz: float) -> Batch:
    """Return the same motion recorded at `hz`: linear, rotations along great arcs."""
    grid = make_grid(batch.t_ns, batch.starts, hz, np.inf)
    columns = {name: grid.linear(step_column(batch.steps.column(name))) for name in source.columns}
    for slot in _rotations(source):
        stored = step_column(batch.steps.column(slot.column))[list(slot.index)] * slot.scale
        q = continuous(as_quat(stored, _rotation(slot)), batch.starts[:-1])
        columns[slot.column][list(slot.index)] = from_quat(grid.spherical(q), _rotation(slot)) / slot.scale
    lengths = np.diff(grid.starts)
    order = np.arange(grid.size) - np.repeat(grid.starts[:-1], lengths)
    return _batch(batch, np.rint(order * (SECOND / hz)).astype(np.int64), lengths, columns)


def noisy(batch: Batch, source: MotionSource, metres: float, degrees: float, seed: int) -> Batch:
    """Return the batch with Gaussian noise on positions, rotations and joints; grippers and hands are left alone.

    `metres` and `degrees` are root mean square lengths: a position is off by `metres`, not each of its coordinates.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    angle, axis = np.radians(degrees), 3**-0.5
    columns = {name: step_column(batch.steps.column(name)).copy() for name in source.columns}
    for slot in (a.position for a in source.arms):
        _add(columns, slot, rng.normal(size=(len(slot.index), batch.steps.num_rows)) * metres * axis)
    for slot in _rotations(source):
        q = as_quat(columns[slot.column][list(slot.index)] * slot.scale, _rotation(slot))
        q = multiply(exp(rng.normal(size=(3, batch.steps.num_rows)) * angle * axis), q)
        columns[slot.column][list(slot.index)] = from_quat(q, _rotation(slot)) / slot.scale
    if source.joint_slot is not None:
        _add(columns, source.joint_slot, rng.normal(size=(len(source.joints), batch.steps.num_rows)) * angle)
    return _batch(batch, batch.t_ns, np.diff(batch.starts), columns)


def reference(batch: Batch, source: MotionSource) -> tuple[F64, tuple[int, ...], str] | str:
    """Return positions to compare the code with, their rows in the code, and where they come from; or why there are none.

    The truth is a simulator's own state, or proprioception where the labels were made from actions.
    """
    contract = batch.contract
    if source.arms:
        truth = source if source.kind == "proprio" else find_source(contract, "proprio")
        if truth is None or len(truth.arms) != len(source.arms):
            return "no independent measurement of the end effector"
        if source.kind == "proprio" and contract.kind != "sim":
            return "labels and proprioception are the same signal; only a simulator knows better"
        told_by = "simulator state" if contract.kind == "sim" else "end-effector proprioception"
        places = [
            step_column(batch.steps.column(a.position.column))[list(a.position.index)] * a.position.scale for a in truth.arms
        ]
        rows = tuple(7 * i + j for i in range(len(source.arms)) for j in range(3))
        return np.concatenate(places), rows, told_by
    if source.kind == "action" and source.joint_slot is not None:
        found = _same_joints(contract, source)
        if found is not None:
            column, index = found
            return (
                step_column(batch.steps.column(column))[index] * source.joint_slot.scale,
                tuple(range(len(index))),
                "joint proprioception",
            )
    return "no independent measurement of the joints"


def displacements(batch: Batch, positions: F64, seconds: float) -> F64:
    """Change of raw positions float64[D, T] from each step to `seconds` later, by plain interpolation; NaN past the end."""
    t = batch.t_ns * 1e-9
    result = np.full_like(positions, np.nan)
    for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        later = t[a:b] + seconds
        inside = later <= t[b - 1] + 1e-9
        for row in range(len(positions)):
            moved = np.interp(later, t[a:b], positions[row, a:b]) - positions[row, a:b]
            result[row, a:b] = np.where(inside, moved, np.nan)
    return result


def true_rates(batch: Batch, source: MotionSource, turn: F64, seconds: float, hz: int) -> dict[int, F64]:
    """Return the true rates of arms by their row in the code, float64[N] at every 1 / `hz` of each episode; NaN past the end.

    Translations and rotations per second in the frame that `turn` leads to, grippers per window; all from raw samples.
    """
    values = read_slots(batch, source)[0]
    found: dict[int, list[F64]] = {}
    for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        t: F64 = (batch.t_ns[a:b] - batch.t_ns[a]).astype(np.float64) * 1e-9
        now: F64 = np.arange(int(t[-1] * hz + 1e-6) + 1, dtype=np.float64) / hz
        past = now + seconds > t[-1] + 1e-9
        for at, arm in enumerate(source.arms):
            rates = [turn @ _moved(values[arm.position][:, a:b], t, now, seconds) / seconds]
            if arm.rotation is not None:
                q = as_quat(values[arm.rotation][:, a:b], _rotation(arm.rotation))
                rates.append(turn @ _turned(q, t, now, seconds) / seconds)
            for row, rate in enumerate(np.concatenate(rates)):
                found.setdefault(7 * at + row, []).append(np.where(past, np.nan, rate))
            if arm.gripper is not None:
                grip = _moved(values[arm.gripper][:, a:b].mean(0)[None], t, now, seconds)[0]
                found.setdefault(7 * at + 6, []).append(np.where(past, np.nan, grip))
    return {row: np.concatenate(parts) for row, parts in found.items()}


def _moved(p: F64, t: F64, now: F64, seconds: float) -> F64:
    """Change of float64[D, T] sampled at `t` from each of `now` to `seconds` later, by plain interpolation."""
    return np.stack([np.interp(now + seconds, t, row) - np.interp(now, t, row) for row in p])


def _turned(q: F64, t: F64, now: F64, seconds: float) -> F64:
    """Rotation vectors, in the fixed frame, from each of `now` to `seconds` later: Log(R(t + w) R(t)^T)."""
    before, after = (_between(q, t, when) for when in (now, np.minimum(now + seconds, t[-1])))
    return log(multiply(after, conjugate(before)))


def _between(q: F64, t: F64, when: F64) -> F64:
    left = np.clip(np.searchsorted(t, when, side="right") - 1, 0, max(len(t) - 2, 0))
    right = np.minimum(left + 1, len(t) - 1)
    span = np.where(t[right] > t[left], t[right] - t[left], 1.0)
    return slerp(q[:, left], q[:, right], np.clip((when - t[left]) / span, 0.0, 1.0))


def _same_joints(contract: Contract, source: MotionSource) -> tuple[str, list[int]] | None:
    """Find a state feature that measures the very joints the source commands."""
    for feature in contract.features:
        place = {name: i for i, name in enumerate(feature.names)}
        if feature.role in ("state", "joint_position") and all(j.name in place for j in source.joints):
            return feature.name, [place[j.name] for j in source.joints]
    return None


def _rotations(source: MotionSource) -> list[Slot]:
    return [a.rotation for a in source.arms if a.rotation is not None and a.rotation.rotation is not None]


def _rotation(slot: Slot) -> Rotation:
    assert slot.rotation is not None
    return slot.rotation


def _add(columns: dict[str, F64], slot: Slot, noise: F64) -> None:
    columns[slot.column][list(slot.index)] += noise / slot.scale


def _batch(batch: Batch, t_ns: np.ndarray, lengths: np.ndarray, columns: Mapping[str, F64]) -> Batch:
    """Build a batch of the same episodes with only the columns that motion is read from."""
    ids = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    table = {
        "episode_id": pa.DictionaryArray.from_arrays(pa.array(ids), pa.array(batch.episodes, pa.string())),
        "t_ns": pa.array(t_ns, pa.int64()),
        **{n: pa.FixedSizeListArray.from_arrays(pa.array(c.T.reshape(-1)), len(c)) for n, c in columns.items()},
    }
    return Batch(batch.contract, pa.table(table))
