"""Runs annotators over one shard: pictures are decoded once, ahead of the models, and every annotator gets the same ones."""

import os
import time
from collections.abc import Sequence
from typing import Any

from annotators.base import Annotator
from annotators.clips import Clip, Look, needs_of, no_clip
from pipelines.annotate.member import Annotated, Member
from pipelines.annotate.parts import HOLD_BYTES, Part, Plan, plan_parts
from pipelines.annotate.pictures import read_clip
from pipelines.loader.prefetch import prefetch
from pipelines.shards.reader import Shard
from pipelines.unit import Reject
from schemas.errors import CorruptMediaError

THREADS = 4  # that decode, at most


def annotate_shard(
    annotators: Sequence[Annotator], shard: Shard, device: str = "cpu", threads: int | None = None, hold_bytes: int = HOLD_BYTES
) -> list[Annotated]:
    """Run annotators over every episode of a shard.

    Those that look at pictures share one pass: a camera they see at the same size is decoded once for all of them. An error of one
    ends that one; what the others say does not change.

    Args:
        annotators: to run; without pictures each is given the whole shard at once.
        shard: what to annotate.
        device: where models run.
        threads: that decode ahead; 0 decodes in this thread, None uses the cores there are.
        hold_bytes: decoded pictures per batch.

    Returns:
        One result per annotator, in order. Rows keep their contract and are in shard order.
    """
    members = [Member(a, needs_of(a, shard.contract), device) for a in annotators]
    watching = [m for m in members if m.needs.looks]
    seen = _watch(watching, shard, _threads(threads), hold_bytes) if watching else {}
    return [seen[id(m)] if m.needs.looks else m.whole(shard) for m in members]


def _watch(members: list[Member], shard: Shard, threads: int, hold_bytes: int) -> dict[int, Annotated]:
    """Decode group by group in threads and give each group to every member that has not failed."""
    started, wait_s, broken = time.perf_counter(), 0.0, dict[str, Reject]()
    plan = plan_parts(shard, [m.needs for m in members], hold_bytes)

    def read(positions: Sequence[int]) -> dict[str, Any]:
        group = plan.groups[positions[0]]
        return {"group": group, "clips": {look: [_clip(shard, plan, p, look, broken) for p in group] for look in plan.looks}}

    ahead = prefetch(iter([(n,) for n in range(len(plan.groups))]), read, threads=threads, ahead=threads + 1)
    try:
        while True:
            asked = time.perf_counter()
            ready = next(ahead, None)
            wait_s += time.perf_counter() - asked
            working = [m for m in members if m.error is None]
            if ready is None or not working:
                break
            for member in working:
                member.feed(shard, ready["group"], ready["clips"])
            del ready
    finally:
        ahead.close()
    seconds, rejects = time.perf_counter() - started, tuple(broken[e] for e in shard.episode_ids if e in broken)
    return {id(m): m.finish(shard, seconds, wait_s, rejects) for m in members}


def _clip(shard: Shard, plan: Plan, part: Part, look: Look, broken: dict[str, Reject]) -> Clip:
    """Decode one part; an episode whose pictures are broken shows none, and is told."""
    what = plan.shown[part.episode, look].part(part.start, part.stop)
    try:
        return read_clip(shard, part.episode, look, what)
    except CorruptMediaError as error:
        broken[part.episode] = Reject.of(error, f"{part.episode}/{look.camera}", error.uri)
        return no_clip(part.stop - part.start)


def _threads(wanted: int | None) -> int:
    return max(min((os.cpu_count() or 2) - 1, THREADS), 1) if wanted is None else wanted
