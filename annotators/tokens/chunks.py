"""Which numbers of a dataset are its actions, and how an episode is cut into chunks of a fixed duration."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.read import step_column
from schemas.contract import Contract, Feature
from transforms.codec.base import F64, I64
from transforms.grid import SECOND
from transforms.horizon import HORIZON_PAST_END

REASONS = (None, HORIZON_PAST_END, "clock_gap", "non_finite_input", "last_action_invalid")
_PAST_END, _GAP, _NON_FINITE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """The actions of a dataset: statistics and tokenizers belong to one of these, and are never pooled across.

    Attributes:
        key: names it: embodiment, shape, representation, column and rate.
        column: the step column.
        hz: steps per second.
        horizon: steps of a chunk.
        names: one per dimension.
        units: one per dimension; empty where the contract does not say.
    """

    key: str
    column: str
    hz: float
    horizon: int
    names: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def dims(self) -> int:
        """How many numbers an action has."""
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks of a batch, in order.

    Attributes:
        first: int64[N] first row of each.
        stop: int64[N] row after it.
        reason: int8[N], place in `REASONS`; 0 is usable.
        actions: float64[M, H, A] of the M usable ones.
    """

    first: I64
    stop: I64
    reason: npt.NDArray[np.int8]
    actions: F64


def action_space(contract: Contract, horizon_s: float, column: str = "") -> ActionSpace | str:
    """Return the action space of a dataset, or the reason why it has none: `no_action`, `no_control_rate`, `horizon_too_short`.

    Args:
        contract: of the dataset.
        horizon_s: duration of a chunk.
        column: tokenize this feature (a state, where actions were not recorded); empty: the action.
    """
    numeric = [f for f in contract.features if not f.dtype.startswith(("str", "bool"))]
    found = next((f for f in numeric if (f.name == column if column else f.role == "action" and not f.privileged)), None)
    if found is None:
        return "no_action"
    if not contract.control_hz:
        return "no_control_rate"
    horizon = round(horizon_s * contract.control_hz)
    if horizon < 2:
        return "horizon_too_short"
    shape = "x".join(map(str, found.shape)) or "1"
    key = f"{contract.embodiment}/{found.name}/{shape}/{found.representation or 'unstated'}@{contract.control_hz:g}Hz"
    return ActionSpace(key, found.name, contract.control_hz, horizon, _names(found), _units(found))


def cut(batch: Batch, space: ActionSpace, stride_s: float | None = None) -> Chunks:
    """Cut every episode into chunks from its start; what is left at the end is one more span that is no chunk.

    Args:
        batch: the steps.
        space: of their dataset.
        stride_s: from the start of one chunk to the next, at most its duration; None: its duration.
    """
    stride = space.horizon if stride_s is None else min(space.horizon, max(1, round(stride_s * space.hz)))
    first, stop = list[I64](), list[I64]()
    for a, b in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
        whole = np.arange(a, b - space.horizon + 1, stride, dtype=np.int64)
        end = int(whole[-1]) + space.horizon if len(whole) else a
        rest = np.array([end] if end < b else [], np.int64)
        first += [whole, rest]
        stop += [whole + space.horizon, rest + (b - end)]
    begin, after = (np.concatenate(x) if x else np.empty(0, np.int64) for x in (first, stop))
    whole = after - begin == space.horizon
    values = column_of(batch.steps, space.column)
    rows = begin[whole][:, None] + np.arange(space.horizon)
    actions = values[rows]
    reason = np.where(whole, 0, _PAST_END).astype(np.int8)
    reason[whole] = _judge(batch, space, rows, actions)
    return Chunks(begin, after, reason, actions[reason[whole] == 0])


def column_of(steps: pa.Table, name: str) -> F64:
    """Return a numeric step column, float64[T, D]; NaN where it is null."""
    return np.ascontiguousarray(step_column(steps.column(name)).T)


def _judge(batch: Batch, space: ActionSpace, rows: I64, actions: F64) -> npt.NDArray[np.int8]:
    reason = np.zeros(len(rows), np.int8)
    if not len(rows):
        return reason
    t = batch.t_ns[rows]
    drift = np.abs(t - t[:, :1] - np.arange(space.horizon) * (SECOND / space.hz))
    reason[drift.max(1) > SECOND / space.hz / 2] = _GAP
    reason[~np.isfinite(actions).all((1, 2))] = _NON_FINITE
    if not batch.contract.last_action_valid:
        reason[np.isin(rows[:, -1], batch.starts[1:] - 1)] = _LAST
    return reason


def _names(feature: Feature) -> tuple[str, ...]:
    size = feature.size
    return feature.names if len(feature.names) == size else tuple(f"{feature.name}[{i}]" for i in range(size))


def _units(feature: Feature) -> tuple[str, ...]:
    units = [feature.unit or ""] * feature.size
    for part in feature.parts:
        for i in range(part.start, min(part.stop, len(units))):
            units[i] = part.unit or ("" if part.role == "gripper" else units[i])
    return tuple(units)
