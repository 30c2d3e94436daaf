"""Cuts a shard into what a model sees at once: whole episodes of about one length, or overlapping parts of long ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from annotators.clips import Look, Needs, bucket
from pipelines.annotate.pictures import Shown, clip_bytes, shown
from pipelines.shards.reader import Shard
from transforms.grid import SECOND

HOLD_BYTES = 64 << 20  # decoded pictures of one group; a few groups are in memory at once


@dataclass(frozen=True, slots=True)
class Part:
    """Steps `[start, stop)` of an episode, of which `[keep, keep_stop)` are this part's own; the rest is context."""

    episode: str
    start: int
    stop: int
    keep: int
    keep_stop: int
    pictures: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a shard is gone through: groups of parts, and what each camera shows of each episode."""

    groups: tuple[tuple[Part, ...], ...]
    looks: tuple[Look, ...]
    shown: dict[tuple[str, Look], Shown]


def plan_parts(shard: Shard, needs: Sequence[Needs], hold_bytes: int = HOLD_BYTES) -> Plan:
    """Plan one pass over a shard that serves annotators with these `needs`.

    Groups hold episodes whose number of pictures is in the same bucket, shortest first. An episode that alone exceeds `hold_bytes` is
    cut where every annotator says how much context it takes, and stays whole otherwise.
    """
    looks = tuple(dict.fromkeys(look for need in needs for look in need.looks))
    contexts = [n.context_s for n in needs]
    context_s = None if None in contexts else max((c for c in contexts if c is not None), default=0.0)
    seen = {(e, look): shown(shard, e, look) for e in shard.episode_ids for look in looks}
    parts = [p for e in shard.episode_ids for p in _parts(shard, e, looks, seen, context_s, hold_bytes)]
    order = sorted(range(len(parts)), key=lambda n: (bucket(parts[n].pictures), n))
    return Plan(tuple(_groups([parts[n] for n in order], hold_bytes)), looks, seen)


def _parts(
    shard: Shard, episode: str, looks: tuple[Look, ...], seen: dict[tuple[str, Look], Shown], context_s: float | None, limit: int
) -> Iterator[Part]:
    steps = shard.episode_steps(episode)
    rows, t_ns = steps.num_rows, steps.column("t_ns").to_numpy()
    pictures = sum(len(seen[episode, look].frames) for look in looks)
    volume = sum(clip_bytes(shard, episode, look, seen[episode, look]) for look in looks)
    if context_s is None or volume <= limit:
        yield Part(episode, 0, rows, 0, rows, pictures, volume)
        return
    count = min(-(-volume // limit), rows)
    edges = np.linspace(0, rows, count + 1).astype(int).tolist()
    reach = round(context_s * SECOND)
    for a, b in pairwise(edges):
        start = max(int(np.searchsorted(t_ns, t_ns[a] - reach)) - 1, 0)
        stop = min(int(np.searchsorted(t_ns, t_ns[b - 1] + reach, side="right")) + 1, rows)
        share = (stop - start) / rows
        yield Part(episode, start, stop, a, b, round(pictures * share), round(volume * share))


def _groups(parts: Sequence[Part], limit: int) -> Iterator[tuple[Part, ...]]:
    group, held = list[Part](), 0
    for part in parts:
        if group and (held + part.bytes > limit or bucket(part.pictures) != bucket(group[0].pictures)):
            yield tuple(group)
            group, held = [], 0
        group.append(part)
        held += part.bytes
    if group:
        yield tuple(group)
