"""Trains a controller between a dataset's own actions and latents that were annotated, and keeps it in the lake under the hash of its content."""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from annotators.evaluation import QualityReport
from annotators.latent.controller.evaluation import Intervals, judge_controller, split
from annotators.latent.controller.model import ControllerSpec, fit_controller, interval_actions
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.publish import publish, seal_of, temporary_for
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import open_shard
from schemas.contract import Contract, Feature
from schemas.errors import UsageError
from transforms.columns import feature_array

FOLDER = "weights/latent_controller"
MOST = 50_000  # intervals
STATES = ("state", "ee_position", "ee_rotation", "gripper", "joint_position", "base_pose")


@dataclass(frozen=True, slots=True)
class TrainedController:
    """A controller in the lake.

    Attributes:
        path: of its file; `annotators.latent.controller.model.load_controller` reads it.
        fitted: intervals it was fitted to.
        heldout: intervals of other episodes it was measured on.
        action: the step column it reads and writes.
        reports: how good it is there.
        spec: how it was made.
    """

    path: str
    fitted: int
    heldout: int
    action: str
    reports: tuple[QualityReport, ...]
    spec: ControllerSpec


def train_controller(
    lake: Lake, what: str = "all", annotator: str = "latent_action", spec: ControllerSpec | None = None,
    fingerprint: str | None = None, camera: str | None = None, horizon_s: float | None = None,
) -> TrainedController:  # fmt: skip
    """Fit to the half of the episodes that evaluation does not report on, measure on the other.

    Args:
        lake: where episodes and annotations are.
        what: episodes of one dataset, see `pipelines.selection.choose`.
        annotator: whose latents: `latent_action`, `flow_latent`, or another one that writes `z` and `horizon_s`.
        spec: of model and training.
        fingerprint: of the annotation; None takes the newest.
        camera: whose latents; None: the first one's.
        horizon_s: which horizon; None: the shortest.

    Raises:
        UsageError: the episodes are of several datasets, have no actions, or were not annotated.
    """
    spec = spec or ControllerSpec()
    episodes = choose(lake, what).episodes
    if (several := episodes["dataset"].n_unique()) != 1:
        raise UsageError(f"{what!r} names episodes of {several} datasets; a controller belongs to one action space, choose one")
    rows = _rows(lake, episodes, annotator, fingerprint, camera, horizon_s)
    intervals, action = _intervals(lake, episodes, rows, spec)
    fit, held = split(split_groups(episodes), intervals.episode)
    if not len(fit):
        fit = held
    fitted, heldout = intervals.take(fit), intervals.take(held)
    controller = fit_controller(fitted.actions, fitted.state, fitted.latents, spec)
    reports = judge_controller(controller, fitted, heldout) if len(held) and len(held) < len(intervals.latents) else ()
    with TemporaryDirectory(prefix="cotrain-") as folder:
        made = Path(folder) / "controller.safetensors"
        controller.save(made)
        target = lake.path(FOLDER, f"{seal_of(made)[:32]}.safetensors")
        if not lake.fs.exists(target):
            with temporary_for(lake, target) as path:
                path.write_bytes(made.read_bytes())
                publish(lake, path, target)
    return TrainedController(target, len(fit), len(held), action.name, reports, spec)


def as_document(trained: TrainedController) -> dict[str, Any]:
    """Return JSON-ready values."""
    told = {"path": trained.path, "fitted": trained.fitted, "heldout": trained.heldout, "action": trained.action}
    return {**told, "reports": [r.to_dict() for r in trained.reports], "spec": asdict(trained.spec)}


def _rows(
    lake: Lake, episodes: pl.DataFrame, annotator: str, fingerprint: str | None, camera: str | None, horizon_s: float | None
) -> pl.DataFrame:
    """Return the valid latents of one camera and horizon."""
    rows = read_annotations(Catalog(lake), annotator, episodes, fingerprint)
    if not {"z", "horizon_s"} <= set(rows.columns) or rows.filter("valid").is_empty():
        raise UsageError(f"no latents of {annotator!r} for these episodes; run `cotrain annotate --with {annotator}` first")
    rows = rows.filter("valid")
    camera = camera or str(rows["camera"].drop_nulls().sort()[0])
    found = rows.filter(pl.col("camera") == camera)
    if found.is_empty():
        raise UsageError(f"no latents of camera {camera!r}; there are {rows['camera'].unique().drop_nulls().sort().to_list()}")
    wanted = float(np.min(found["horizon_s"].to_numpy())) if horizon_s is None else horizon_s
    near = found.filter((pl.col("horizon_s") - wanted).abs() < 1e-4)
    if near.is_empty():
        there = sorted({round(h, 4) for h in found["horizon_s"].to_list()})
        raise UsageError(f"no latents of horizon {wanted:g} s; there are {there}")
    return near


def _intervals(lake: Lake, episodes: pl.DataFrame, rows: pl.DataFrame, spec: ControllerSpec) -> tuple[Intervals, Feature]:
    """Read the actions and states that belong to latents, at most `MOST`, spread evenly."""
    rows = rows.gather_every(max(1, -(-rows.height // MOST)))
    place = {e: i for i, e in enumerate(episodes["episode_id"].to_list())}
    parts: list[Intervals] = []
    action: Feature | None = None
    for (dataset, name, episode), own in rows.group_by("dataset", "shard", "episode_id", maintain_order=True):
        shard = open_shard(lake, str(dataset), str(name))
        action, steps = _action(shard.contract), shard.episode_steps(str(episode))
        values = feature_array(steps, action).reshape(steps.num_rows, -1)
        first, stop = (own[n].to_numpy().astype(np.int64) for n in ("start_step", "end_step"))
        z = np.array(own["z"].to_list(), np.float32)
        where = np.full(len(z), place[str(episode)])
        parts.append(
            Intervals(interval_actions(values, first, stop, spec.samples), _state(steps, shard.contract)[first], z, where)
        )
    if action is None:
        raise UsageError("no latents for these episodes")
    every = Intervals(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("actions", "state", "latents", "episode")))
    whole = np.isfinite(every.actions).all((1, 2)) & np.isfinite(every.state).all(1) & np.isfinite(every.latents).all(1)
    return every.take(np.flatnonzero(whole)), action


def _action(contract: Contract) -> Feature:
    for feature in contract.features:
        if feature.role == "action" and feature.dtype.startswith("float") and not feature.privileged:
            return feature
    raise UsageError(f"{contract.dataset} has no float actions; a controller needs recorded ones")


def _state(steps: Any, contract: Contract) -> np.ndarray:
    found = [
        feature_array(steps, f).reshape(steps.num_rows, -1).astype(np.float32)
        for f in contract.features
        if f.role in STATES and f.dtype.startswith("float") and not f.privileged
    ]
    return np.concatenate(found, 1) if found else np.zeros((steps.num_rows, 0), np.float32)
