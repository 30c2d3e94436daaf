"""Colours of a mixture's cameras: integer histograms of pictures chosen evenly over the train steps, merged exactly.

The choice depends on episode ids and lengths alone, so any sharding decodes the same pictures and gives the same figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from pipelines.loader.episode import EpisodeView
from pipelines.loader.fields import NOT_RGB
from pipelines.shards.reader import Shard, open_shard

I64 = npt.NDArray[np.int64]
LEVELS = 256
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
type Key = tuple[str, str]  # action space, camera


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """The colours of one camera in one action space, 0 to 255; three figures each, for red, green and blue.

    Attributes:
        scope: action space, see `Contract.action_space`.
        camera: its name.
        frames: pictures looked at.
        count: pixels of each channel.
        histogram: [3][256], pixels of each level.
    """

    scope: str
    camera: str
    frames: int
    count: int
    histogram: tuple[tuple[int, ...], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q10: tuple[float, ...]
    q50: tuple[float, ...]
    q90: tuple[float, ...]
    q99: tuple[float, ...]

    @classmethod
    def of(cls, key: Key, frames: int, histogram: I64) -> Self:
        """Read the figures off a histogram int64[3, 256]; quantiles are numpy's `lower` ones."""
        count, levels = int(histogram[0].sum()), np.arange(LEVELS)
        total, square = histogram @ levels, histogram @ levels**2
        spread = [count * int(q) - int(t) ** 2 for t, q in zip(total, square, strict=True)]
        running = np.cumsum(histogram, axis=1)
        figures: dict[str, Any] = {
            "mean": tuple(int(t) / count for t in total), "std": tuple((s**0.5) / count for s in spread),
            "min": tuple(float(np.flatnonzero(h)[0]) for h in histogram), "max": tuple(float(np.flatnonzero(h)[-1]) for h in histogram),
        }  # fmt: skip
        for name, share in QUANTILES.items():
            rank = int(share * (count - 1))
            figures[name] = tuple(float(np.searchsorted(r, rank, side="right")) for r in running)
        return cls(*key, frames, count, tuple(tuple(h.tolist()) for h in histogram), **figures)


def picture_statistics(lake: Lake, runs: pl.DataFrame, frames: int) -> tuple[ImageStatistics, ...]:
    """Describe every RGB camera of the datasets of `runs`.

    Args:
        lake: where the shards are.
        runs: steps to choose from: `dataset`, `shard`, `episode_id`, `first_row`, `steps`.
        frames: pictures per camera and dataset, at most; fewer where a camera saw nothing at a chosen step.
    """
    total: dict[Key, I64] = {}
    counted: dict[Key, int] = {}
    for shard, episode, steps in _chosen(lake, runs, frames):
        view = EpisodeView(shard, episode)
        for camera in (c.name for c in shard.contract.cameras if c.role not in NOT_RGB):
            seen = view.frames(camera)[steps]
            seen = seen[seen >= 0]
            if not len(seen):
                continue
            key = (shard.contract.action_space, camera)
            total[key] = total.get(key, np.zeros((3, LEVELS), np.int64)) + histogram(shard.read(episode, camera, seen))
            counted[key] = counted.get(key, 0) + len(seen)
    return tuple(ImageStatistics.of(key, counted[key], total[key]) for key in sorted(total))


def histogram(images: npt.NDArray[np.uint8]) -> I64:
    """Count the levels of each channel of uint8[n, H, W, 3], int64[3, 256]."""
    return np.stack([np.bincount(images[..., c].reshape(-1), minlength=LEVELS) for c in range(3)]).astype(np.int64)


def _chosen(lake: Lake, runs: pl.DataFrame, frames: int) -> Iterator[tuple[Shard, str, I64]]:
    """Yield shards, episodes and their chosen steps; of each dataset, the middles of `frames` equal parts of its steps."""
    for (dataset,), rows in runs.sort("dataset", "episode_id", "first_row").group_by("dataset", maintain_order=True):
        ends = rows["steps"].cum_sum().to_numpy()
        wanted = np.unique((2 * np.arange(frames) + 1) * int(ends[-1]) // (2 * frames))
        place = np.searchsorted(ends, wanted, side="right")
        for number in np.unique(place).tolist():
            row = rows.row(number, named=True)
            shard = open_shard(lake, str(dataset), row["shard"])
            begin = row["first_row"] - EpisodeView(shard, row["episode_id"]).first_row
            yield shard, row["episode_id"], begin + wanted[place == number] - (ends[number] - row["steps"])
