"""Which datasets' trajectories can be compared, and by which scale: the same count of numbers, spread over about the same ranges."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from catalog.lake import Lake
from pipelines.lint.evidence import LintSettings, facts_of_row, gather
from pipelines.shards.reader import open_shard
from transforms.curation.signals import motion_dims
from transforms.lint.base import Evidence, representation
from transforms.rotation import F64

SAMPLE, STEPS, DIGITS = 32, 200, 2
ALIKE = 1.0  # powers of two between the spreads of a typical number


@dataclass(frozen=True, slots=True)
class Space:
    """Trajectories that can be compared. `scale` is the standard deviation of each number, rounded so that more episodes rarely change it."""

    name: str
    scale: tuple[float, ...]

    @property
    def scale_array(self) -> F64:
        """The scale as float64[D]."""
        return np.array(self.scale)


def find_spaces(lake: Lake, rows: pl.DataFrame) -> dict[str, Space]:
    """Return the space of each dataset in `rows` (of the catalog's episodes) that tells of motion; datasets are taken by name.

    A dataset joins a space of as many numbers whose typical spread is within a factor of two of its own: copies of a dataset, or a
    part of one, have nearly the same spreads; another robot, or other units, have not.
    """
    found: dict[str, Space] = {}
    for (dataset,), held in rows.sort("dataset", maintain_order=True).group_by(["dataset"], maintain_order=True):
        spread = _spread(lake, held)
        if spread is None:
            continue
        near = (s for s in dict.fromkeys(found.values()) if len(s.scale) == len(spread) and _alike(s.scale_array, spread))
        own = Space(f"{dataset}/{len(spread)}", tuple(float(f"{x:.{DIGITS}g}") for x in spread))
        found[str(dataset)] = next(near, own)
    return found


def read_numbers(it: Evidence) -> F64:
    """Return the numbers that tell where the robot is, float64[T, D], without grippers: the state, else absolute actions."""
    features = [f for f in it.states if f.role != "gripper"]
    if not features and it.action is not None and representation(it.action) in ("absolute", None):
        features = [it.action]
    columns = [it.values(f)[:, motion_dims(f)] for f in features]
    return np.nan_to_num(np.concatenate(columns, 1)) if columns else np.zeros((it.count, 0))


def _alike(a: F64, b: F64) -> bool:
    return float(np.median(np.abs(np.log2(a / b)))) < ALIKE


def _spread(lake: Lake, held: pl.DataFrame) -> F64 | None:
    picked = held[np.unique(np.linspace(0, held.height - 1, min(SAMPLE, held.height)).astype(int)).tolist()]
    parts: list[F64] = []
    for row in picked.iter_rows(named=True):
        shard = open_shard(lake, row["dataset"], row["shard"])
        values = read_numbers(gather(shard, row, facts_of_row(row), LintSettings(pictures=False), look=False))
        parts.append(values[:: max(1, len(values) // STEPS)])
    width = parts[-1].shape[1]
    if not width:
        return None
    spread = np.concatenate([p for p in parts if p.shape[1] == width]).std(0)
    if not spread.any():
        return None
    floor = 0.1 * float(np.median(spread[spread > 0]))  # a number that hardly moves is not blown up
    return np.maximum(spread, floor)
