"""Trains the gaze network on a selection's own recordings and keeps the weights in the lake under the hash of their content."""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from annotators.base import Batch, in_test
from annotators.clips import Look, Needs
from annotators.device import choose_device
from annotators.gaze.config import GazeConfig
from annotators.gaze.labels import Labelled, joined, label, thinned
from annotators.gaze.model import GazeNetSpec, save
from annotators.gaze.predicted import PredictedGaze, PredictedGazeConfig
from annotators.gaze.pseudo import PseudoGaze, PseudoGazeConfig
from annotators.gaze.recorded import RECORDED, RecordedGaze
from annotators.gaze.train import train
from catalog.lake import Lake
from pipelines.annotate.member import streams_of
from pipelines.annotate.pictures import whole_clip
from pipelines.publish import publish, seal_of, temporary_for
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import open_shard
from schemas.contract import Contract
from schemas.errors import UsageError

FOLDER = "weights/gaze"
MOST_BYTES = 2 << 30  # pictures in memory; recordings that have more are thinned evenly


@dataclass(frozen=True, slots=True)
class TrainedGaze:
    """A gaze model in the lake.

    Attributes:
        path: of the weights; give it to `--set weights=`.
        episodes: trained on.
        fixations: pictures with a label.
        losses: (step, mean loss) along the training.
        spec: how.
    """

    path: str
    episodes: int
    fixations: int
    losses: tuple[tuple[int, float], ...]
    spec: GazeNetSpec


def train_gaze(
    lake: Lake, what: str = "all", spec: GazeNetSpec | None = None, camera: str | None = None, device: str = "auto"
) -> TrainedGaze:
    """Train on the half of the episodes that evaluation does not report on (on all where that half is empty), at most `MOST_BYTES` of it.

    Args:
        lake: where the episodes are and the weights go.
        what: see `pipelines.selection.choose`.
        spec: of model and training; `labels` says whether recorded gaze or a robot's pseudo-gaze is learnt, never both.
        camera: whose pictures; None: the first that looks where the head does.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: no chosen episode has such gaze and pictures beside it.
    """
    spec = spec or GazeNetSpec()
    parts, why = _labelled(lake, what, spec, camera)
    if not parts:
        told = "; ".join(sorted(why)) or "nothing is chosen"
        raise UsageError(f"{what!r} has no {spec.labels} gaze in pictures ({told}); see docs/gaze.md for what is needed")
    labelled = joined(parts)
    made = train(labelled, spec, choose_device(device))
    with TemporaryDirectory(prefix="cotrain-") as folder:
        file = Path(folder) / "gaze.safetensors"
        save(made.model, spec, file)
        target = lake.path(FOLDER, f"{seal_of(file)[:32]}.safetensors")
        if not lake.fs.exists(target):
            with temporary_for(lake, target) as path:
                path.write_bytes(file.read_bytes())
                publish(lake, path, target)
    return TrainedGaze(target, len(parts), len(labelled), made.losses, spec)


def _labelled(lake: Lake, what: str, spec: GazeNetSpec, camera: str | None) -> tuple[list[Labelled], set[str]]:
    """Label every episode that may be learnt from; also return why others gave none."""
    episodes = choose(lake, what).episodes
    test = in_test(split_groups(episodes))
    if not test.all():
        episodes = episodes.filter(pl.Series(~test))
    looks = PredictedGaze(PredictedGazeConfig(camera=camera))
    most = MOST_BYTES // (3 * spec.side**2) // max(episodes.height, 1)
    parts, why = list[Labelled](), set[str]()
    for dataset, name, episode in episodes.select("dataset", "shard", "episode_id").iter_rows():
        shard = open_shard(lake, dataset, name)
        chosen = looks.camera(shard.contract)
        if chosen is None:
            why.add("no_colour_camera")
            continue
        needs = _needs(shard.contract, spec, chosen.name)
        clip = whole_clip(shard, episode, Look(chosen.name, (spec.side, spec.side), spec.hz))
        streams = streams_of(shard.episode_streams(episode), needs) if needs.streams else None
        batch = Batch(shard.contract, shard.episode_steps(episode), {chosen.name: (clip,)}, streams)
        found = label(batch, chosen, spec.frames, spec.hz, spec.side, GazeConfig(camera=chosen.name), spec.labels)
        if isinstance(found, str):
            why.add(found)
        else:
            parts.append(thinned(found, most))
    return parts, why


def _needs(contract: Contract, spec: GazeNetSpec, camera: str) -> Needs:
    if spec.labels == RECORDED:
        return RecordedGaze(GazeConfig(camera=camera)).needs(contract)
    return PseudoGaze(PseudoGazeConfig(camera=camera)).needs(contract)


def as_document(trained: TrainedGaze) -> dict[str, Any]:
    """Return JSON-ready values."""
    return {
        "path": trained.path, "episodes": trained.episodes, "fixations": trained.fixations, "losses": [list(p) for p in trained.losses],
        "spec": asdict(trained.spec),
    }  # fmt: skip
