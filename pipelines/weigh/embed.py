"""Episodes as points of one space: summaries of their states and actions, or embeddings that somebody computed elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from catalog.lake import Lake
from pipelines.shards.reader import open_shard
from schemas.contract import Contract, Feature
from schemas.errors import UsageError
from transforms.columns import feature_array

F64 = npt.NDArray[np.float64]
ROLES = ("state", "action", "ee_position", "ee_rotation", "gripper", "joint_position")
SHOWN = 5


def shared_features(contracts: Sequence[Contract], names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the features to summarise: those named, else every state and action that all datasets have in one shape.

    Raises:
        UsageError: a dataset lacks one, their shapes differ, or nothing is shared.
    """
    by_name = [{f.name: f for f in c.features if f.dtype != "string" and f.size} for c in contracts]
    for name in names:
        shapes = {c.dataset: known[name].shape if name in known else None for c, known in zip(contracts, by_name, strict=True)}
        if len(set(shapes.values())) != 1 or None in shapes.values():
            raise UsageError(
                f"{name} is not one numeric feature of one shape everywhere: {shapes}; name others, or give embeddings"
            )
    if names:
        return tuple(names)
    first = by_name[0] if by_name else {}
    found = [f.name for f in first.values() if _comparable(f) and all(k.get(f.name, _NONE).shape == f.shape for k in by_name)]
    if not found:
        datasets = ", ".join(c.dataset for c in contracts)
        raise UsageError(
            f"the datasets {datasets} share no state or action of one shape; standardise them, or give embeddings (--embeddings)"
        )
    return tuple(found)


_NONE = Feature("", "float32", (-1,))


def _comparable(feature: Feature) -> bool:
    return feature.role in ROLES and not feature.privileged


def summarise(lake: Lake, episodes: pl.DataFrame, features: Sequence[str]) -> F64:
    """Return mean, deviation, first and last value of every scalar of the features, float64[episodes, 4 D], in row order."""
    found: list[F64] = [np.empty(0)] * len(episodes)
    numbered = episodes.select("dataset", "shard", "first_row", "steps").with_row_index("at")
    for (dataset, shard), rows in numbered.group_by(["dataset", "shard"], maintain_order=True):
        opened = open_shard(lake, str(dataset), str(shard))
        tables = [feature_array(opened.steps, opened.contract.feature(name)) for name in features]
        flat = np.concatenate([t.reshape(len(t), -1).astype(np.float64) for t in tables], axis=1)
        for at, first, steps in rows.select("at", "first_row", "steps").iter_rows():
            mine = flat[first : first + steps]
            found[at] = np.concatenate([mine.mean(0), mine.std(0), mine[0], mine[-1]])
    return np.stack(found)


def read_embeddings(path: Path, episodes: pl.DataFrame) -> F64:
    """Return embeddings from a Parquet file, float64[episodes, d], in row order; of several rows per episode, their mean.

    Args:
        path: columns `episode_id` and either one list column or one column per axis.
        episodes: which.

    Raises:
        UsageError: the file cannot be read, or lacks an episode.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        raise UsageError(f"{path} is no readable Parquet file of embeddings: {error}") from error
    axes = [c for c in table.columns if c != "episode_id"]
    if "episode_id" not in table.columns or not axes:
        raise UsageError(f"{path} has the columns {table.columns}; it needs episode_id and a list column, or one column per axis")
    if len(axes) == 1 and isinstance(table.schema[axes[0]], (pl.List, pl.Array)):
        vectors = table[axes[0]].cast(pl.List(pl.Float64))
        axes = [f"axis {k}" for k in range(int(vectors.list.len().fill_null(0).max() or 0))]  # pyright: ignore[reportArgumentType]
        wide = [vectors.list.get(k, null_on_oob=True).alias(name) for k, name in enumerate(axes)]
        table = table.select("episode_id").with_columns(wide)
    means = table.group_by("episode_id").agg(pl.col(a).cast(pl.Float64).mean() for a in axes)
    found = episodes.select("episode_id").join(means, on="episode_id", how="left", maintain_order="left")
    lost = found.filter(pl.any_horizontal(pl.col(axes).is_null()))["episode_id"]
    if len(lost):
        raise UsageError(f"{path} has no whole embedding of {len(lost)} episodes ({', '.join(lost.head(SHOWN).to_list())})")
    return found.select(axes).to_numpy()
