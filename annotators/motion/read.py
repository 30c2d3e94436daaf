"""Reads what a `MotionSource` names out of step columns: SI units, holes told, deltas summed to paths."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.source import FULL_SCALE, MotionSource, Slot
from transforms.grid import BOOL
from transforms.rotation import F64

_REACH = {"m": 10.0, "rad": 4 * np.pi, "opening": 2.0, FULL_SCALE: np.inf}  # beyond this, the unit is not what was assumed


def read_slots(batch: Batch, source: MotionSource) -> tuple[dict[Slot, F64], BOOL, BOOL]:
    """Read every slot in SI units. Also: which steps are finite (bool[T]) and which episodes plausible (bool[E])."""
    values: dict[Slot, F64] = {}
    finite = np.ones(batch.steps.num_rows, bool)
    plausible = np.ones(len(batch.episodes), bool)
    columns = {name: step_column(batch.steps.column(name)) for name in source.columns}
    for slot in source.slots:
        raw = columns[slot.column][list(slot.index)]
        whole = np.isfinite(raw).all(0)
        finite &= whole
        raw = np.where(whole, np.abs(raw) if slot.unsigned else raw, _identity(slot))
        scaled = (raw - slot.closed) / (slot.opened - slot.closed) if slot.unit == "opening" else raw * slot.scale
        if not slot.stated and slot.unit in _REACH and slot.rotation is None:
            reach = np.maximum.reduceat(np.abs(scaled).max(0), batch.starts[:-1])
            plausible &= reach <= _REACH[slot.unit]
        values[slot] = scaled
    return values, finite, plausible


def step_column(column: pa.ChunkedArray) -> F64:
    """Return a scalar or fixed-size-list column as float64[D, T]; nulls become NaN."""
    array: Any = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        flat = array.values.slice(array.offset * size, len(array) * size)
        data = np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(len(array), size)
        if array.null_count:
            data = np.where(array.is_valid().to_numpy(zero_copy_only=False)[:, None], data, np.nan)
        return np.ascontiguousarray(data.T)
    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)[None]


def _identity(slot: Slot) -> F64:
    """A placeholder for steps without values: no rotation where a rotation is wanted, else zero. Their windows are not used."""
    size = len(slot.index)
    blank = np.zeros((size, 1))
    match slot.rotation:
        case "quat_wxyz":
            blank[-4] = 1
        case "quat_xyzw":
            blank[-1] = 1
        case "matrix":
            blank[[0, 4, 8]] = 1
        case "rot6d":
            blank[[0, 4]] = 1
        case _:
            pass
    return blank


def integral(slot: Slot, values: dict[Slot, F64], batch: Batch) -> F64:
    """Return a signal whose differences are displacements: absolute values as they are, deltas summed, velocities times time.

    A command holds from its step to the next, so step i shows the sum of all commands before it.
    """
    data = values[slot]
    if slot.representation == "absolute":
        return data
    if slot.representation == "velocity":
        seconds = np.diff(batch.t_ns, append=batch.t_ns[-1:]) * 1e-9
        seconds[batch.starts[1:] - 1] = 0.0
        data = data * seconds
    total = np.zeros_like(data)
    for a, b in pairwise(batch.starts):  # one by one, so that rounding does not depend on the episodes before
        np.cumsum(data[:, a : b - 1], axis=1, out=total[:, a + 1 : b])
    return total
