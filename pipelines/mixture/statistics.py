"""True statistics of a mixture's train split: one pass over the steps tables, merged exactly, kept per action space.

Features are never pooled across embodiments or action spaces, nor across different shapes. Held-out episodes do not count, an
episode that several sources draw counts once, and an action that a contract declares to be padding does not count.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from pipelines.mixture.index import Index
from pipelines.mixture.pictures import QUANTILES, ImageStatistics, picture_statistics
from pipelines.shards.reader import Shard, open_shard
from schemas.contract import Contract, Feature
from schemas.errors import LakeError, UsageError
from schemas.ids import canonical_json, digest
from transforms.columns import feature_array
from transforms.quantiles import ALPHA, Sketch

type Key = tuple[str, str, tuple[int, ...]]  # action space, feature, shape


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """One feature of one action space. Values are flat, one per scalar of `shape`; None where nothing was finite."""

    scope: str
    feature: str
    shape: tuple[int, ...]
    count: int
    invalid: tuple[int, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...]
    min: tuple[float | None, ...]
    max: tuple[float | None, ...]
    q01: tuple[float | None, ...]
    q10: tuple[float | None, ...]
    q50: tuple[float | None, ...]
    q90: tuple[float | None, ...]
    q99: tuple[float | None, ...]

    @classmethod
    def of(cls, key: Key, sketch: Sketch) -> Self:
        """Read a sketch's figures. `count` is the number of steps; NaN and infinities are counted in `invalid`."""
        columns = sketch.columns
        figures: dict[str, Any] = {
            "invalid": tuple(c.invalid for c in columns),
            "mean": tuple(_plain(c.mean) for c in columns),
            "std": tuple(_plain(c.std) for c in columns),
            "min": tuple(_plain(c.low) for c in columns),
            "max": tuple(_plain(c.high) for c in columns),
        }
        figures |= {name: tuple(_plain(c.quantile(share)) for c in columns) for name, share in QUANTILES.items()}
        return cls(*key, sketch.rows, **figures)


@dataclass(frozen=True)
class Statistics:
    """Every feature's statistics, ordered by action space, feature and shape, and every camera's, where they were asked for."""

    rows: tuple[FeatureStatistics, ...]
    images: tuple[ImageStatistics, ...] = ()

    @cached_property
    def hash(self) -> str:
        """Identifies the figures; the same for any order of reading and any sharding."""
        rows = [asdict(r) for r in self.rows]
        return digest([rows, [asdict(i) for i in self.images]] if self.images else rows)

    def get(self, scope: str, feature: str) -> FeatureStatistics:
        """Return the statistics of `feature` in the action space `scope` (`Contract.action_space`).

        Raises:
            UsageError: there are none, or there are several because datasets disagree about its shape.
        """
        found = [r for r in self.rows if r.scope == scope and r.feature == feature]
        if len(found) != 1:
            have = sorted({f"{r.scope}: {r.feature}" for r in self.rows})
            why = (
                f"{len(found)} shapes ({[r.shape for r in found]})" if found else f"nothing; there is {', '.join(have) or 'none'}"
            )
            raise UsageError(f"statistics of {feature!r} in {scope!r}: {why}")
        return found[0]

    def to_json(self) -> bytes:
        """Return the bytes of `stats.json`."""
        images = {"images": [asdict(i) for i in self.images]} if self.images else {}
        return canonical_json({"hash": self.hash, "alpha": ALPHA, "rows": [asdict(r) for r in self.rows], **images})

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            LakeError: the figures are not the ones that were hashed.
        """
        raw = json.loads(text)
        rows, images = (_frozen(raw.get(key, [])) for key in ("rows", "images"))
        result = cls(tuple(FeatureStatistics(**r) for r in rows), tuple(ImageStatistics(**i) for i in images))
        if result.hash != raw["hash"]:
            raise LakeError("stats.json does not match its own hash; it was changed after it was written: mix again")
        return result


def compute_statistics(lake: Lake, index: Index, image_frames: int = 0) -> Statistics:
    """Summarise every numeric feature of the index's train steps, one shard at a time, and `image_frames` pictures per camera."""
    total: dict[Key, Sketch] = {}
    for shard, episodes in _train_shards(lake, index):
        merge_into(total, sketch_shard(shard, episodes))
    rows = tuple(FeatureStatistics.of(key, total[key]) for key in sorted(total))
    return Statistics(rows, picture_statistics(lake, train_runs(index), image_frames) if image_frames else ())


def sketch_shard(shard: Shard, episodes: list[tuple[int, int]]) -> dict[Key, Sketch]:
    """Summarise the given episodes (first row and steps of each) of one shard."""
    contract = shard.contract
    rows = _rows(episodes, skip_last=False)
    acted = rows if contract.last_action_valid else _rows(episodes, skip_last=True)
    return {
        (contract.action_space, f.name, f.shape): Sketch.of(feature_array(shard.steps, f)[acted if f.role == "action" else rows])
        for f in _numeric(contract)
    }


def merge_into(total: dict[Key, Sketch], part: dict[Key, Sketch]) -> None:
    """Add `part` to `total` in place; any order of parts gives the same total."""
    for key, sketch in part.items():
        total[key] = total[key].merge(sketch) if key in total else sketch


def _train_shards(lake: Lake, index: Index) -> Iterator[tuple[Shard, list[tuple[int, int]]]]:
    for (dataset, shard), rows in train_runs(index).group_by(["dataset", "shard"], maintain_order=True):
        yield open_shard(lake, str(dataset), str(shard)), list(rows.select("first_row", "steps").iter_rows())


def train_runs(index: Index) -> pl.DataFrame:
    """Return the runs of steps that the train split draws, each step once, by `dataset`, `shard`, `first_row`."""
    rows = index.frame().filter(pl.col("split") == "train").select("dataset", "shard", "episode_id", "first_row", "steps")
    rows = rows.with_columns(end=pl.col("first_row") + pl.col("steps")).unique().sort("dataset", "shard", "first_row", "end")
    before = pl.col("end").cum_max().shift(1).over("dataset", "shard").fill_null(0)
    cut = rows.with_columns(first_row=pl.max_horizontal("first_row", before))  # what earlier runs leave of each
    found = cut.with_columns(steps=pl.col("end") - pl.col("first_row")).filter(pl.col("steps") > 0)
    return found.drop("end")


def _rows(episodes: list[tuple[int, int]], *, skip_last: bool) -> npt.NDArray[np.int64]:
    spans = [np.arange(first, first + steps - int(skip_last), dtype=np.int64) for first, steps in episodes]
    return np.concatenate(spans) if spans else np.empty(0, np.int64)


def _numeric(contract: Contract) -> list[Feature]:
    return [f for f in contract.features if f.dtype != "string" and f.size]


def _frozen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return parsed rows with tuples in place of lists."""

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return [{k: tuples(v) for k, v in row.items()} for row in rows]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
