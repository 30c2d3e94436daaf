"""Which datasets' trajectories can be compared, and by which scale: the same count of numbers, spread over about the same ranges."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from catalog.lake import Lake
from pipelines.curate.subject import read_evidence
from pipelines.shards.reader import open_shard
from transforms.curation.signals import read_numbers
from transforms.rotation import F64
from transforms.spread import spread

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
        spreads = _spreads(lake, held)
        if spreads is None:
            continue
        near = (s for s in dict.fromkeys(found.values()) if len(s.scale) == len(spreads) and _alike(s.scale_array, spreads))
        own = Space(f"{dataset}/{len(spreads)}", tuple(float(f"{x:.{DIGITS}g}") for x in spreads))
        found[str(dataset)] = next(near, own)
    return found


def _alike(a: F64, b: F64) -> bool:
    return float(np.median(np.abs(np.log2(a / b)))) < ALIKE


def _spreads(lake: Lake, held: pl.DataFrame) -> F64 | None:
    parts: list[F64] = []
    for row in held[spread(held.height, SAMPLE).tolist()].iter_rows(named=True):
        shard = open_shard(lake, row["dataset"], row["shard"])
        values = read_numbers(read_evidence(shard, row))
        parts.append(values[:: max(1, len(values) // STEPS)])
    width = parts[-1].shape[1]
    if not width:
        return None
    found = np.concatenate([p for p in parts if p.shape[1] == width]).std(0)
    if not found.any():
        return None
    floor = 0.1 * float(np.median(found[found > 0]))  # a number that hardly moves is not blown up
    return np.maximum(found, floor)
