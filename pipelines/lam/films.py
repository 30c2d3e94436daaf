"""The films a latent action model is trained on: which pictures of which episodes, in groups that fit into memory, decoded ahead."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate

import numpy as np
import polars as pl

from annotators.base import in_test
from annotators.clips import Clip, Look, colour_cameras
from annotators.latent.config import LamConfig
from annotators.latent.pool import Pool, agent_in, pairs_of, pool_of
from catalog.lake import Lake
from pipelines.annotate.pictures import shown, whole_clip
from pipelines.loader.prefetch import prefetch
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import Shard, open_shard
from schemas.errors import CorruptMediaError, UsageError
from schemas.ids import digest, short_id
from transforms.grid import BOOL
from transforms.permutation import permutation

MASKS = "segmentation."  # prefix of the camera that carries a camera's masks
HOLD_BYTES = 1 << 30  # of decoded pictures that are learnt from at once


@dataclass(frozen=True, slots=True)
class Film:
    """What one camera shows of one episode.

    Attributes:
        dataset: whose.
        shard: where.
        episode: which.
        look: camera, size and rate.
        on_hand: whether the camera moves with the agent.
        pictures: how many.
        pairs: how many pairs of them lie a horizon apart.
        masks: the segmentation of the same camera, where the agent is to be found in it.
        agent: its values that are the agent.
    """

    dataset: str
    shard: str
    episode: str
    look: Look
    on_hand: bool
    pictures: int
    pairs: int
    masks: Look | None = None
    agent: tuple[int, ...] = ()


@dataclass(frozen=True)
class Films:
    """Every film of a selection, shuffled and cut into groups.

    Attributes:
        lake: where they are.
        groups: films that are in memory together.
        model: whose pairs and pictures.
        agent: how the agent is called in segmentations; empty: nobody asked where it is.
    """

    lake: Lake
    groups: tuple[tuple[Film, ...], ...]
    model: LamConfig
    agent: tuple[str, ...] = ()

    @property
    def films(self) -> int:
        """How many there are."""
        return sum(map(len, self.groups))

    @cached_property
    def key(self) -> str:
        """Identify what is learnt from."""
        rows = sorted([f.dataset, f.episode, f.look.camera, f.pictures, f.pairs] for group in self.groups for f in group)
        return short_id("films", [digest(rows), [len(g) for g in self.groups], self.agent])

    @cached_property
    def pairs(self) -> tuple[int, ...]:
        """How many pairs each group has."""
        return tuple(sum(f.pairs for f in group) for group in self.groups)

    def visits(self, batch: int, seed: int, start: int, steps: int) -> Iterator["Visit"]:
        """Yield which group is learnt from when, from step `start` to `steps`; an epoch is every group once, in an order of its own.

        Raises:
            UsageError: no group has enough pairs for one batch.
        """
        each = [count // batch for count in self.pairs]
        if not sum(each):
            raise UsageError(
                f"{sum(self.pairs)} pairs are fewer than one batch of {batch}; choose more episodes, or --set batch="
            )
        for epoch in range(start // sum(each), -(-steps // sum(each))):
            order = permutation(len(each), f"films {seed} {epoch}".encode())(np.arange(len(each))).tolist()
            ends = list(accumulate(each[g] for g in order))
            for group, end in zip(order, ends, strict=True):
                first = epoch * sum(each) + end - each[group]
                skip, stop = max(start - first, 0), min(each[group], steps - first)
                if skip < stop:
                    yield Visit(group, epoch, skip, stop)

    def pools(self, visits: Sequence["Visit"], threads: int) -> Iterator[tuple[Pool, list[str]]]:
        """Yield the pairs of each visit's group, decoded ahead in threads, and the films that do not decode; one group alone is decoded once."""
        if len(self.groups) == 1:
            pool = next(self._decoded([0], threads), None)
            yield from ([] if pool is None else [pool] * len(visits))
            return
        yield from self._decoded([v.group for v in visits], threads)

    def _decoded(self, groups: Sequence[int], threads: int) -> Iterator[tuple[Pool, list[str]]]:
        films = [(place, n) for place, g in enumerate(groups) for n in range(len(self.groups[g]))]

        def read(position: Sequence[int]) -> dict[str, Taken | str]:
            return {"taken": _read(self, self.groups[groups[position[0]]][position[1]])}

        ahead = prefetch(iter(films), read, threads=threads, ahead=2 * threads + 1)
        try:
            for group in groups:
                taken = [next(ahead)["taken"] for _ in self.groups[group]]
                kept = [t for t in taken if isinstance(t, Taken)]
                clips, hands = [t.clip for t in kept], [t.on_hand for t in kept]
                agents = [t.agent for t in kept if t.agent is not None]
                yield (
                    pool_of(clips, self.model.horizons_s, self.model.side, hands, agents),
                    [t for t in taken if isinstance(t, str)],
                )
        finally:
            ahead.close()


@dataclass(frozen=True, slots=True)
class Taken:
    """A film's pictures, whether its camera moves with the agent, and where the agent is, bool[N, S, S]."""

    clip: Clip
    on_hand: bool
    agent: BOOL | None


@dataclass(frozen=True, slots=True)
class Visit:
    """Batches `[skip, stop)` of one group in one epoch."""

    group: int
    epoch: int
    skip: int
    stop: int


def films_of(
    lake: Lake,
    what: str,
    model: LamConfig,
    cameras: Sequence[str] = (),
    hz: float | None = None,
    hold_bytes: int = HOLD_BYTES,
    agent: tuple[str, ...] = (),
) -> Films:
    """Return the films of the half of the episodes that evaluation does not report on (of all where that half is empty).

    Args:
        lake: where the episodes are.
        what: see `pipelines.selection.choose`.
        model: whose horizons and size of pictures.
        cameras: which; empty: all colour cameras that are not privileged.
        hz: at most this many pictures per second; None: all.
        hold_bytes: decoded pictures of one group.
        agent: what of `segmentation.<camera>` is the agent: values, or patterns (`right_*`) of the names an episode gives to values.

    Raises:
        UsageError: there is no pair of pictures, or the agent is named and no camera has a segmentation.
    """
    episodes = choose(lake, what).episodes
    test = in_test(split_groups(episodes))
    if not test.all():
        episodes = episodes.filter(pl.Series(~test))
    found, opened = list[Film](), dict[str, Shard]()
    for dataset, name, episode, told in episodes.select("dataset", "shard", "episode_id", "attributes").iter_rows():
        shard = opened.get(name) or opened.setdefault(name, open_shard(lake, dataset, name))
        found += _films(shard, dataset, episode, model, cameras, hz, agent_values(agent, told))
    if not found:
        raise UsageError(f"{what!r} shows no two pictures {model.horizons_s[0]:g} s apart of a colour camera; see `cotrain ls`")
    if agent and all(f.masks is None for f in found):
        raise UsageError(
            f"{what!r} has no segmentation in which {', '.join(agent)} could be found; Meta-World recordings have one"
        )
    found.sort(key=lambda f: digest(["film", f.episode, f.look.camera]))
    return Films(lake, tuple(_grouped(found, model.side, hold_bytes)), model, agent)


def agent_values(patterns: Sequence[str], attributes: str | None) -> tuple[int, ...]:
    """Return which values of an episode's segmentation are the agent: those named, and those whose name matches a pattern."""
    named: dict[str, str] = (json.loads(attributes) if attributes else {}).get("segments", {})
    matching = {int(value) for value, name in named.items() if any(fnmatchcase(name, p) for p in patterns)}
    return tuple(sorted(matching | {int(p) for p in patterns if p.isdigit()}))


def _films(
    shard: Shard, dataset: str, episode: str, model: LamConfig, cameras: Sequence[str], hz: float | None, agent: tuple[int, ...]
) -> Iterator[Film]:
    segmented = {c.name for c in shard.contract.cameras if c.role == "segmentation"}
    for camera in colour_cameras(shard.contract, cameras):
        look = Look(camera.name, (model.side, model.side), hz)
        what = shown(shard, episode, look)
        pairs = len(pairs_of(what.t_ns, model.horizons_s)[0])
        if pairs:
            masks = Look(MASKS + camera.name) if agent and MASKS + camera.name in segmented else None
            yield Film(dataset, shard.shard, episode, look, camera.role == "wrist", len(what.frames), pairs, masks, agent)


def _grouped(films: Sequence[Film], side: int, hold_bytes: int) -> Iterator[tuple[Film, ...]]:
    group, held = list[Film](), 0
    for film in films:
        size = film.pictures * side * side * 3
        if group and held + size > hold_bytes:
            yield tuple(group)
            group, held = [], 0
        group.append(film)
        held += size
    yield tuple(group)


def _read(films: Films, film: Film) -> Taken | str:
    """Return the pictures of a film, or why they do not decode."""
    shard = open_shard(films.lake, film.dataset, film.shard)
    try:
        clip = whole_clip(shard, film.episode, film.look)
        masks = None if film.masks is None else whole_clip(shard, film.episode, film.masks)
    except CorruptMediaError as error:
        return f"{film.episode}/{film.look.camera}: {error}"
    agent = agent_in(clip, masks, film.agent, films.model.side) if films.agent else None
    return Taken(clip, film.on_hand, agent)
