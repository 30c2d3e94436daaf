"""What the agent really did between two steps: displacements of hands, joints and grippers, as the recording tells them.

Displacements, not places: an absolute target is predictable from the picture alone, whatever a latent says.
"""

from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.motion.read import integral, read_slots
from annotators.motion.source import MotionSource, Slot, find_source
from transforms.columns import feature_array
from transforms.grid import BOOL, I64
from transforms.rotation import F64, as_quat, conjugate, log, multiply

NOBODY_KNOWS = "neither proprioception nor actions say how the agent moved"


@dataclass(frozen=True, slots=True)
class Truth:
    """What happened in each interval.

    Attributes:
        action: float64[n, A], displacement over the interval: metres, radians, share of the gripper's stroke.
        names: what each number is.
        usable: bool[n]; false where the recording has a hole or an implausible unit.
        told_by: where it comes from.
    """

    action: F64
    names: tuple[str, ...]
    usable: BOOL
    told_by: str


def interval_motion(batch: Batch, first: I64, last: I64) -> Truth | str:
    """Return the motion from row `first` to row `last` of the batch's steps, int64[n] each; or why nobody knows it."""
    source = find_source(batch.contract, "proprio") or find_source(batch.contract, "action")
    if source is None or not (source.arms or source.joint_slot or source.hands):
        return NOBODY_KNOWS
    values, finite, plausible = read_slots(batch, source)
    parts: list[tuple[str, F64]] = []
    for arm in source.arms:
        place = integral(arm.position, values, batch)
        parts += [(f"{arm.who} {axis}".strip(), row[last] - row[first]) for axis, row in zip("xyz", place, strict=True)]
        if arm.rotation is not None:
            turn = _turned(arm.rotation, integral(arm.rotation, values, batch), first, last)
            parts += [(f"{arm.who} r{axis}".strip(), row) for axis, row in zip("xyz", turn, strict=True)]
        if arm.gripper is not None:
            parts.append((f"{arm.who} gripper".strip(), _opened(values[arm.gripper], first, last)))
    parts += _joints(batch, source, values, first, last)
    holes = np.concatenate([[0], np.cumsum(~finite)])
    low, high = np.minimum(first, last), np.maximum(first, last)
    episode = np.searchsorted(batch.starts, first, side="right") - 1
    usable = (holes[high + 1] == holes[low]) & plausible[episode]
    told_by = "proprioception" if source.kind == "proprio" else "recorded actions"
    return Truth(np.stack([v for _, v in parts], 1), tuple(n for n, _ in parts), usable, told_by)


def proprioception(batch: Batch) -> F64 | None:
    """Return all float state that is no privilege, float64[T, S]; None where there is none."""
    known = ("state", "ee_position", "ee_rotation", "gripper", "joint_position", "base_pose")
    columns = [
        feature_array(batch.steps, f).reshape(batch.steps.num_rows, -1).astype(np.float64)
        for f in batch.contract.features
        if f.role in known and f.dtype.startswith("float") and not f.privileged
    ]
    return np.nan_to_num(np.concatenate(columns, 1)) if columns else None


def _joints(batch: Batch, source: MotionSource, values: dict[Slot, F64], first: I64, last: I64) -> list[tuple[str, F64]]:
    found: list[tuple[str, F64]] = []
    if source.joint_slot is not None:
        place = integral(source.joint_slot, values, batch)
        found += [(j.name, row[last] - row[first]) for j, row in zip(source.joints, place, strict=True)]
    return found + [(hand.who, _opened(values[hand.slot], first, last)) for hand in source.hands]


def _opened(opening: F64, first: I64, last: I64) -> F64:
    mean = opening.mean(0)
    return mean[last] - mean[first]


def _turned(slot: Slot, values: F64, first: I64, last: I64) -> F64:
    """Return rotation vectors in the fixed frame, float64[3, n]: Log(R1 R0^T), or differences of what only small turns add up to."""
    if slot.rotation is None or slot.representation != "absolute":
        return values[:, last] - values[:, first]
    q = as_quat(values, slot.rotation)
    return log(multiply(q[:, last], conjugate(q[:, first])))
