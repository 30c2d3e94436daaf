"""Trains depth codes on a selection's own depth pictures and keeps the weights in the lake under the hash of their content."""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from annotators.base import in_test
from annotators.clips import Look
from annotators.depth.frames import F32, FAR, NEAR, SIDE, as_model_input, depth_camera
from annotators.depth.model import DepthCodesSpec, save, train
from catalog.lake import Lake
from pipelines.annotate.pictures import whole_clip
from pipelines.publish import publish, seal_of, temporary_for
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import open_shard
from schemas.errors import UsageError

FOLDER = "weights/depth_codes"
MOST_PICTURES = 20_000


@dataclass(frozen=True, slots=True)
class TrainedCodes:
    """Codes in the lake.

    Attributes:
        path: of the weights; give it to `--set weights=`.
        pictures: trained on.
        spec: how.
    """

    path: str
    pictures: int
    spec: DepthCodesSpec


def train_depth_codes(
    lake: Lake, what: str = "all", spec: DepthCodesSpec | None = None, camera: str | None = None
) -> TrainedCodes:
    """Train on the half of the episodes that evaluation does not report on (on all where that half is empty).

    Args:
        lake: where the episodes are and the weights go.
        what: see `pipelines.selection.choose`.
        spec: of model and training.
        camera: which depth camera; None: the first whose unit is stated.

    Raises:
        UsageError: no chosen episode has depth in a stated unit.
    """
    spec = spec or DepthCodesSpec()
    metres, given = _pictures(lake, what, camera)
    if not len(given):
        raise UsageError(
            f"{what!r} has no depth pictures in a stated unit; record with --depth-hz, or state depth_unit_m in a contract overlay"
        )
    model = train(given, (metres >= NEAR) & (metres <= FAR), spec)
    with TemporaryDirectory(prefix="cotrain-") as folder:
        made = Path(folder) / "codes.safetensors"
        save(model, spec, made)
        target = lake.path(FOLDER, f"{seal_of(made)[:32]}.safetensors")
        if not lake.fs.exists(target):
            with temporary_for(lake, target) as path:
                path.write_bytes(made.read_bytes())
                publish(lake, path, target)
    return TrainedCodes(target, len(given), spec)


def _pictures(lake: Lake, what: str, camera: str | None) -> tuple[Any, Any]:
    """Return metres and log depth float32[N, 80, 80] of at most `MOST_PICTURES` pictures, spread evenly."""
    episodes = choose(lake, what).episodes
    test = in_test(split_groups(episodes))
    if not test.all():
        episodes = episodes.filter(pl.Series(~test))
    nothing: F32 = np.empty((0, SIDE, SIDE), np.float32)
    metres, given = [nothing], [nothing]
    most = max(1, MOST_PICTURES // max(episodes.height, 1))
    for dataset, name, episode in episodes.select("dataset", "shard", "episode_id").iter_rows():
        shard = open_shard(lake, dataset, name)
        chosen = depth_camera(shard.contract, camera)
        if isinstance(chosen, str):
            continue
        pictures = whole_clip(shard, episode, Look(chosen.name)).pictures
        if len(pictures):
            every = max(1, -(-len(pictures) // most))
            real, log = as_model_input(pictures[::every], chosen.depth_unit_m or 0.0)
            metres.append(real)
            given.append(log)
    return np.concatenate(metres), np.concatenate(given)


def as_document(trained: TrainedCodes) -> dict[str, Any]:
    """Return JSON-ready values."""
    return {"path": trained.path, "pictures": trained.pictures, "spec": asdict(trained.spec)}
