"""Demonstrations whose quality and length are known: minimum-jerk movements with rests, in a contract with a gripper."""

import numpy as np
import pyarrow as pa

from schemas.contract import Contract, Feature, Part
from schemas.shards import steps_schema
from transforms.curation.score import Subject
from transforms.curation.segments import movements
from transforms.curation.signals import read_signals
from transforms.lint.base import Evidence

SECOND = 1_000_000_000
CONTRACT = Contract(
    "demos", "sim", "toy_arm", 50.0,
    features=(
        Feature("observation.state", "float32", (4,), ("x", "y", "z", "gripper"), role="state", representation="absolute",
                parts=(Part("gripper", 3, 4, gripper_open=1.0, gripper_closed=0.0),)),
        Feature("action", "float32", (4,), ("x", "y", "z", "gripper"), role="action", representation="absolute"),
    ),
)  # fmt: skip


def minimum_jerk(count: int) -> np.ndarray:
    """Progress 0..1 of a minimum-jerk movement, float64[count]."""
    s = np.linspace(0, 1, count)
    return 10 * s**3 - 15 * s**4 + 6 * s**5


def demo(seed: int, movements_: int | None = None, hz: float = 50.0, shake: float = 0.0, noise: float = 0.0) -> np.ndarray:
    """One demonstration, float64[T, 4]: movements between random places with short rests; the gripper closes after the first."""
    rng = np.random.default_rng(seed)
    here, rows = rng.uniform(-1, 1, 3), []
    for k in range(movements_ or int(rng.integers(2, 12))):
        there = rng.uniform(-1, 1, 3)
        u = minimum_jerk(round(rng.uniform(0.6, 1.6) * hz))[:, None]
        path = here + u * (there - here)
        rows += [
            np.column_stack([path, np.full(len(path), float(k == 0))]),
            np.tile([*there, float(k == 0)], (round(0.15 * hz), 1)),
        ]
        here = there
    values = np.concatenate(rows)
    t = np.arange(len(values)) / hz
    values[:, :3] += shake * np.sin(2 * np.pi * 6 * t[:, None] + rng.uniform(0, 6, 3)) + noise * rng.normal(size=(len(t), 3))
    return values


def steps_of(
    values: np.ndarray, action: np.ndarray | None = None, hz: float = 50.0, t_ns: np.ndarray | None = None, name: str = "ep-0"
) -> pa.Table:
    """Lay a demonstration out as a steps table; by default the action is the next step's state."""
    count = len(values)
    asked = np.concatenate([values[1:], values[-1:]]) if action is None else action
    columns = {
        "episode_id": pa.array([name] * count).dictionary_encode(), "step": np.arange(count, dtype=np.int32),
        "t_ns": (np.arange(count) * SECOND / hz).astype(np.int64) if t_ns is None else t_ns, "is_first": np.arange(count) == 0,
        "is_last": np.arange(count) == count - 1, "is_terminal": np.zeros(count, bool),
        "language": pa.array(["put the red cup on the plate"] * count).dictionary_encode(),
    }  # fmt: skip
    for key, rows in (("observation.state", values), ("action", asked)):
        columns[key] = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1)), 4)
    schema = steps_schema(CONTRACT)
    return pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


def subject_of(values: np.ndarray, **how) -> Subject:
    """A demonstration as scores see it."""
    it = Evidence(CONTRACT, steps_of(values, **how), row={"episode_id": how.get("name", "ep-0"), "success": None})
    signals = read_signals(it)
    return Subject(it, signals, movements(signals) if signals is not None else ())
