"""What the collapse audit looks at: for anchors of a selection, what is seen, what was said, and what is done next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from pipelines.proprioception import actions, matrix, standardised, states
from pipelines.shards.reader import Shard, open_shard
from schemas.errors import UsageError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
CHUNK_POINTS = 8  # an action chunk is described by this many instants


@dataclass(frozen=True, slots=True)
class Windows:
    """Anchors of the episodes of one action space.

    Attributes:
        episode: int64[N], number of the episode.
        start_ns: int64[N], time of the anchor.
        seen: float64[N, V], embedding of what is seen at the anchor, standardised.
        said: int64[N], class of the instruction.
        done: float64[N, A], the action chunk from the anchor on, standardised.
        component: int64[N], which samples must stay together when data is divided.
        episodes: episode ids.
        instructions: canonical text of each class.
        source: what `seen` comes from.
    """

    episode: I64
    start_ns: I64
    seen: F64
    said: I64
    done: F64
    component: I64
    episodes: tuple[str, ...]
    instructions: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """How anchors are taken.

    Attributes:
        every_s: seconds between the anchors of an episode; the first is its first step.
        most: anchors per episode at most.
        horizon_s: length of the action chunk, seconds.
        camera: whose pictures are embedded; empty: the first exterior camera, else the first.
        embeddings: a Parquet file of `episode_id`, `vector` and optionally `start_ns`, in place of the built-in embedding.
    """

    every_s: float = 2.0
    most: int = 8
    horizon_s: float = 1.0
    camera: str = ""
    embeddings: str = ""


def canonical(text: str) -> str:
    """Return an instruction in lower case, without punctuation at its end and double spaces: how classes are told apart."""
    return " ".join(text.lower().split()).rstrip(".!?")


def take_windows(lake: Lake, episodes: pl.DataFrame, config: WindowConfig) -> Windows:
    """Read the anchors of `episodes` (rows of the catalog's table).

    Raises:
        UsageError: no episode has an instruction and an action, their action spaces differ, or embeddings are missing.
    """
    given = _given(config.embeddings)
    found, spaces, sources = list[tuple[str, str, str, I64, F64, F64]](), set[str](), set[str]()
    for row in episodes.sort("dataset", "shard", "first_row").iter_rows(named=True):
        shard = open_shard(lake, row["dataset"], row["shard"])
        if not row["task"] or not actions(shard.contract):
            continue
        steps = _anchors(shard, row["episode_id"], config)
        seen, source = _seen(shard, row["episode_id"], steps, config, given)
        t_ns = shard.episode_steps(row["episode_id"]).column("t_ns").to_numpy()[steps]
        done = _done(shard, row["episode_id"], steps, config.horizon_s)
        found.append((row["episode_id"], canonical(row["task"]), row["split_group"] or row["episode_id"], t_ns, seen, done))
        spaces.add(shard.contract.action_space)
        sources.add(f"{source}[{seen.shape[1]}]")
    if not found:
        raise UsageError(f"none of the {episodes.height} episodes has both an instruction and an action")
    if len(spaces) > 1 or len(sources) > 1:
        raise UsageError(f"the selection mixes {sorted(spaces)} seen through {sorted(sources)}; audit one dataset at a time")
    return _joined(found, sources.pop())


def _joined(found: Sequence[tuple[str, str, str, I64, F64, F64]], source: str) -> Windows:
    sizes = [len(t) for _, _, _, t, _, _ in found]
    texts = sorted({text for _, text, *_ in found})
    groups = {g: i for i, g in enumerate(sorted({g for _, _, g, *_ in found}))}
    return Windows(
        np.repeat(np.arange(len(found)), sizes),
        np.concatenate([t for _, _, _, t, _, _ in found]),
        standardised(np.concatenate([s for *_, s, _ in found])),
        np.repeat([texts.index(text) for _, text, *_ in found], sizes),
        standardised(np.concatenate([d for *_, d in found])),
        np.repeat([groups[g] for _, _, g, *_ in found], sizes),
        tuple(e for e, *_ in found),
        tuple(texts),
        source,
    )


def _anchors(shard: Shard, episode: str, config: WindowConfig) -> I64:
    t = shard.episode_steps(episode).column("t_ns").to_numpy()
    wanted = t[0] + np.arange(config.most) * round(config.every_s * 1e9)
    return np.unique(np.searchsorted(t, wanted[wanted <= t[-1]], side="right") - 1)


def _done(shard: Shard, episode: str, anchors: I64, horizon_s: float) -> F64:
    steps = shard.episode_steps(episode)
    t = steps.column("t_ns").to_numpy()
    offsets = (np.arange(CHUNK_POINTS) * (horizon_s * 1e9 / CHUNK_POINTS)).astype(np.int64)
    rows = np.clip(np.searchsorted(t, t[anchors][:, None] + offsets, side="right") - 1, 0, len(t) - 1)
    return np.nan_to_num(matrix(steps, actions(shard.contract)))[rows].reshape(len(anchors), -1)


def _seen(shard: Shard, episode: str, anchors: I64, config: WindowConfig, given: Any) -> tuple[F64, str]:
    """Embed what is seen: the caller's vectors, a camera's pictures, or proprioception where there is no camera."""
    steps = shard.episode_steps(episode)
    if given is not None:
        return _looked_up(given, episode, steps.column("t_ns").to_numpy()[anchors]), "embeddings"
    if camera := _camera(shard, episode, config.camera):
        from transforms.embedding import NAME, embed

        frames = np.maximum(steps.column(f"frame.{camera}").to_numpy()[anchors], 0)
        return embed(shard.read(episode, camera, frames)).astype(np.float64), f"{NAME} of {camera}"
    if not states(shard.contract):
        raise UsageError(f"{episode} has no camera and no state: nothing is seen; give --set embeddings=FILE.parquet")
    return np.nan_to_num(matrix(steps, states(shard.contract))[anchors]), "state"


def _camera(shard: Shard, episode: str, wanted: str) -> str:
    have = shard.cameras(episode)
    if wanted:
        if wanted not in have:
            raise UsageError(f"{episode} has no camera {wanted!r}; it has {have}")
        return wanted
    roles = {c.name: c.role for c in shard.contract.cameras if not c.privileged}
    shown = [c for c in have if roles.get(c) not in (None, "depth", "segmentation", "eye")]
    return next((c for c in shown if roles[c] == "exterior"), shown[0] if shown else "")


def _given(path: str) -> dict[str, list[tuple[int, F64]]] | None:
    if not path:
        return None
    if not Path(path).is_file():
        raise UsageError(f"{path} is not a file; give a Parquet file of episode_id and vector")
    table = pl.read_parquet(path)
    if missing := {"episode_id", "vector"} - set(table.columns):
        raise UsageError(f"{path} lacks {sorted(missing)}; it needs episode_id, vector and optionally start_ns")
    found: dict[str, list[tuple[int, F64]]] = {}
    for row in _rows(table):
        found.setdefault(row[0], []).append((row[1], np.asarray(row[2], np.float64)))
    return {e: sorted(v, key=lambda pair: pair[0]) for e, v in found.items()}


def _rows(table: pl.DataFrame) -> Iterator[tuple[str, int, Any]]:
    start = table["start_ns"] if "start_ns" in table.columns else pl.Series([0] * table.height)
    return zip(table["episode_id"], start, table["vector"], strict=True)


def _looked_up(given: dict[str, list[tuple[int, F64]]], episode: str, t_ns: I64) -> F64:
    if episode not in given:
        raise UsageError(f"the embeddings have no vector for {episode}")
    times = np.array([t for t, _ in given[episode]])
    rows = np.maximum(np.searchsorted(times, t_ns, side="right") - 1, 0)
    return np.stack([given[episode][r][1] for r in rows])
