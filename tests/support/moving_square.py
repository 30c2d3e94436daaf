"""A red square that an agent pushes over a wavy floor, and a green one that nobody pushes: pictures whose actions are known exactly.

One action is a push of up to 4 pixels a side, drawn evenly, so that no picture alone tells it. The distractor moves further, at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch
from annotators.clips import Clip
from annotators.latent.gates.dreams import Scenes
from annotators.latent.gates.evidence import Evidence
from annotators.latent.gates.pictures import picture_features
from annotators.latent.pool import Pool
from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.shards.encode import encode_h264
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import run_stage
from schemas.contract import Camera, Contract, Feature
from schemas.shards import steps_schema
from transforms.optical_flow import dense_flow, describe, grey

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
SIDE, REACH, HZ = 32, 4.0, 5
RED, GREEN = np.array([0.9, 0.2, 0.2]), np.array([0.2, 0.9, 0.3])
PIXEL_M = 0.01  # what a pixel is in metres, for the contract


@dataclass(frozen=True)
class Pushes:
    """Film of pushes: pictures float32[E, T, H, W, 3] in 0..1, places float64[E, T, 2] in pixels, actions float64[E, T - 1, 2]."""

    pictures: F32
    place: F64
    action: F64


@lru_cache(maxsize=8)
def pushes(episodes: int, steps: int = 2, seed: int = 0, distractor: bool = False, side: int = SIDE) -> Pushes:
    """Film episodes of `steps` pictures; one pair each by default, as pairs are drawn in the design sheet."""
    rng = np.random.default_rng(seed)
    floor = rng.uniform(0.1, 0.5, (episodes, 3))
    action = rng.uniform(-REACH, REACH, (episodes, steps - 1, 2))
    # Long episodes start in the middle: a wall would tell the action.
    margin = 6 + REACH / 2 * (steps - 2) ** 0.5
    place = rng.uniform(margin, side - margin, (episodes, 1, 2))
    place = np.concatenate([place, place + np.cumsum(action, 1)], 1)
    stray = rng.uniform(4, side - 4, (episodes, 1, 2)) + np.concatenate(
        [np.zeros((episodes, 1, 2)), np.cumsum(rng.uniform(-6, 6, (episodes, steps - 1, 2)), 1)], 1
    )
    wave = 0.05 * np.sin(0.7 * np.arange(side))[:, None, None]
    pictures = np.empty((episodes, steps, side, side, 3), np.float32)
    for e in range(episodes):
        for t in range(steps):
            picture = floor[e] + wave + np.zeros((side, side, 1))
            if distractor:
                picture = _square(picture, stray[e, t], 7, GREEN)
            pictures[e, t] = _square(picture, place[e, t], 6, RED)
    return Pushes(pictures.clip(0, 1), place, action)


def _square(picture: F64, at: F64, size: float, colour: F64) -> F64:
    """Draw a square with soft edges, so that less than a pixel of motion shows."""
    line = np.arange(picture.shape[0])
    across, down = (1 / (1 + np.exp(-3 * (size / 2 - np.abs(line - x)))) for x in at)
    mask = (down[:, None] * across)[:, :, None]
    return picture * (1 - mask) + mask * colour


def scenes(film: Pushes) -> Scenes:
    """Every pair of neighbouring pictures."""
    episodes, steps = film.pictures.shape[:2]
    first, second = (film.pictures[:, s].reshape(-1, *film.pictures.shape[2:]) for s in (slice(0, -1), slice(1, None)))
    return Scenes(first, second, np.repeat(np.arange(episodes), steps - 1), episodes)


def evidence(film: Pushes, latent: F32, *, per_episode: int = 8, random: F32 | None = None, flow: F32 | None = None) -> Evidence:
    """Lay out latents of all pairs, in order; pairs are grouped into `episodes` of `per_episode` so that folds hold several."""
    shown = scenes(film)
    episode = shown.episode // per_episode
    names = tuple(f"film-{e}" for e in range(int(episode.max()) + 1))
    place = film.place[:, :-1].reshape(-1, 2)
    return Evidence(
        latent.astype(np.float32), film.action.reshape(-1, 2), episode, names, ("x", "y"), "the film's own pushes",
        picture_features(shown.first), picture_features(shown.second), place, flow, random,
    )  # fmt: skip


def square_contract(side: int = SIDE) -> Contract:
    """What the film promises as a dataset."""
    return Contract(
        "squares", "sim", "square", float(HZ),
        features=(
            Feature("hand", "float32", (3,), ("x", "y", "z"), role="ee_position", representation="absolute", unit="m"),
            Feature("action", "float32", (3,), ("x", "y", "z"), role="action", representation="delta", unit="m"),
        ),
        cameras=(Camera("front", role="exterior", width=side, height=side, fps=float(HZ)),),
        licence="Apache-2.0",
    )  # fmt: skip


def square_batch(film: Pushes, hz: float = HZ) -> Batch:
    """Return the film as an annotator gets it, at `hz` steps per second; pictures stay `HZ` per second."""
    contract = square_contract(film.pictures.shape[2])
    tables, clips = [], list[Clip]()
    per = round(hz / HZ)
    steps = film.pictures.shape[1]
    for e in range(len(film.pictures)):
        t_ns = np.rint(np.arange(steps * per) * 1e9 / hz).astype(np.int64)
        columns = _columns(film, e, per)
        frames = np.repeat(np.arange(steps, dtype=np.int32), per)
        tables.append(build_steps(contract, t_ns, columns, frames={"front": frames}))
        pictures = _u8(film.pictures[e])
        clips.append(Clip(pictures, t_ns[::per], np.arange(steps) * per, frames.astype(np.int64), pictures.shape[1:3]))
    lengths = [t.num_rows for t in tables]
    names = pa.array([f"film-{e}" for e in range(len(tables))], pa.string())
    ids = pa.DictionaryArray.from_arrays(pa.array(np.repeat(np.arange(len(tables), dtype=np.int32), lengths)), names)
    steps_table = pa.concat_tables(tables).add_column(0, pa.field("episode_id", ids.type, nullable=False), ids)
    return Batch(contract, steps_table.cast(steps_schema(contract).remove_metadata()), {"front": tuple(clips)})


@dataclass(frozen=True)
class SquareSource:
    """The film as a source: its pictures as video, its places as state."""

    uri: str = "squares://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("squares"))
    episodes: int = 24
    steps: int = 4
    seed: int = 0
    distractor: bool = False
    name: ClassVar[str] = "squares"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("squares://")

    def contract(self) -> Contract:
        return square_contract()

    def groups(self) -> list[Group]:
        return [Group("all", self.episodes, 1000, [self.episodes, self.steps, self.seed, self.distractor], None)]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        film = pushes(self.episodes, self.steps, self.seed, self.distractor)
        t_ns = np.arange(self.steps, dtype=np.int64) * 1_000_000_000 // HZ
        frames = {"front": np.arange(self.steps, dtype=np.int32)}
        for e in range(self.episodes):
            track = encode_h264("front", _u8(film.pictures[e]), t_ns, HZ)
            steps = build_steps(self.contract(), t_ns, _columns(film, e, 1), language="push the red square", frames=frames)
            yield EpisodeDraft(str(e), steps, (track,), success=True, uri=self.uri)


def square_pool(film: Pushes, labels: float = 0.0, *, mask: bool = False) -> Pool:
    """Return every pair of neighbouring pictures, ready to learn from; the first `labels` of them know their push, pictures where red is."""
    shown = scenes(film)
    count = len(shown.first)
    pictures = np.concatenate([_u8(p) for p in (shown.first, shown.second)])
    label = film.action.reshape(-1, 2).astype(np.float32) / REACH
    label[round(labels * count) :] = np.nan
    agent = pictures[..., 0].astype(int) > pictures[..., 1].astype(int) + 90 if mask else None
    rows = np.arange(count)
    return Pool(pictures, rows, rows + count, np.zeros(count, np.int64), np.zeros(count, bool), agent, label if labels else None)


def square_flow(film: Pushes) -> F32:
    """Return described flow of every pair of neighbouring pictures, float32[n, 38]."""
    shown = scenes(film)
    pairs = zip(grey(_u8(shown.first)), grey(_u8(shown.second)), strict=True)
    return np.stack([describe(dense_flow(a, b)) for a, b in pairs])


def _u8(pictures: F32) -> npt.NDArray[np.uint8]:
    return np.rint(pictures * 255).astype(np.uint8)


def square_checkpoint(folder: Path, film: Pushes, **settings: Any) -> Path:
    """Train a model of neighbouring pictures on the film in this process and write it; codes are fitted to continuous latents."""
    from annotators.latent.books import fit_books
    from annotators.latent.checkpoint import save
    from annotators.latent.config import Lam, LamConfig
    from annotators.latent.evaluation import Imagination
    from annotators.latent.learn import fit

    lam = Lam(LamConfig(side=film.pictures.shape[2], horizons_s=(1 / HZ,))).changed(settings)
    model, shown, told = fit(square_pool(film), lam), scenes(film), lam.training
    latent = Imagination(model, 0).infer(shown.first, shown.second)
    books = None if lam.model.discrete or not told.derive else fit_books(latent, told.derive, told.derive_levels)
    save(folder, lam, model.state_dict(), books)
    return folder


def square_lake(lake: Lake, **changes: int) -> Lake:
    """Ingest the film in this process."""
    run_stage(IngestStage(lake, SquareSource(**changes)), execution=Execution(workers=0))
    return lake


def _columns(film: Pushes, episode: int, per: int) -> dict[str, F64]:
    """Return places and pushes of an episode in metres, `per` steps a picture: float64[T, 3]."""
    place, push = film.place[episode], np.concatenate([film.action[episode], np.zeros((1, 2))])
    return {
        n: np.concatenate([np.repeat(v, per, 0) * PIXEL_M, np.zeros((len(v) * per, 1))], 1)
        for n, v in (("hand", place), ("action", push / per))
    }
