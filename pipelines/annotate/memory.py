"""Runs an annotator on a batch and makes the batch smaller when memory runs out: halves, remembers, counts."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from annotators.base import AT_ONCE, Annotator, Batch
from annotators.device import free_memory, inference, is_out_of_memory


@dataclass
class Room:
    """How much one annotator is given at once on one device, as far as this process has learnt.

    Attributes:
        at_once: pictures for the model at once.
        episodes: episodes of one call.
        halvings: how often memory ran out.
    """

    at_once: int = AT_ONCE
    episodes: int = sys.maxsize
    halvings: int = 0


_rooms: dict[tuple[str, str], Room] = {}


def room_for(annotator: Annotator, device: str) -> Room:
    """Return what this process knows about an annotator on a device; what it learns is kept until the process ends."""
    return _rooms.setdefault((annotator.fingerprint(), device), Room())


def run_within(annotator: Annotator, batch: Batch, room: Room, check: Callable[[Batch, pa.Table], pa.Table]) -> list[pa.Table]:
    """Run an annotator on as many calls as memory asks for; the rows do not depend on how many.

    Args:
        annotator: what to run.
        batch: on what.
        room: what is known; it shrinks when memory runs out.
        check: called with each piece and its rows.

    Raises:
        MemoryError: or torch's own error, when a single episode and a single picture at once are too much.
    """
    count = len(batch.episodes)
    if count > room.episodes:
        halves = batch.take(list(range(count // 2))), batch.take(list(range(count // 2, count)))
        return [rows for half in halves for rows in run_within(annotator, half, room, check)]
    try:
        with inference(batch.device):
            return [check(batch, annotator.run(replace(batch, at_once=room.at_once)))]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if count == 1 and room.at_once == 1:
            error.add_note(
                f"{annotator.name} ran out of memory with one picture at once; look at smaller pictures, or use --device cpu"
            )
            raise
    free_memory(batch.device)
    room.halvings += 1
    room.at_once, room.episodes = max(room.at_once // 2, 1), max(count // 2, 1)
    return run_within(annotator, batch, room, check)
