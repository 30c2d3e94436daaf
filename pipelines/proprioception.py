"""A contract's states and actions as plain matrices: what fitters, audits and attempts read of an episode besides pictures."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.contract import Contract, Feature
from transforms.columns import feature_array

F64 = npt.NDArray[np.float64]
STATE_ROLES = ("state", "ee_position", "ee_rotation", "gripper", "joint_position", "base_pose")


def states(contract: Contract) -> list[Feature]:
    """Return the numeric features a policy may see besides pictures."""
    return [f for f in contract.features if f.role in STATE_ROLES and not f.privileged and f.dtype != "string"]


def actions(contract: Contract) -> list[Feature]:
    """Return the action features."""
    return [f for f in contract.features if f.role == "action" and f.dtype != "string"]


def matrix(steps: pa.Table, features: Sequence[Feature]) -> F64:
    """Return features beside each other, float64[T, D], in their own units; gaps are NaN."""
    return np.concatenate([feature_array(steps, f).reshape(steps.num_rows, -1).astype(np.float64) for f in features], axis=1)


def standardised(values: F64) -> F64:
    """Return float64[N, D] with mean 0 and deviation 1 per column; constant columns are 0."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 1e-12, spread, np.inf)
