"""Batches on the device that trains: copied from page-locked memory beside its work, pictures as bytes and turned to floats there."""

from collections import deque
from collections.abc import Generator
from contextlib import closing, nullcontext
from typing import Any

import torch

from pipelines.loader.prefetch import Batch

IMAGES_PART = ".images."  # of `observation.images.<camera>`, and of goals and next observations
AHEAD = 1  # batches on their way to a GPU while it works on the one before


def carried(source: Generator[Batch], device: str, *, floats: bool) -> Generator[Batch]:
    """Yield the batches of `source` on `device`, in order.

    To a GPU, copies run on a stream of their own, a batch ahead of the consumer, whose stream waits for just the copies it needs; a
    page-locked buffer is filled again only when its copy is through.

    Args:
        source: batches in this process's memory; closed at the end.
        device: `cpu`, `cuda` or `cuda:<number>`, one that is there.
        floats: turn uint8 pictures into float32 from 0 to 1, on the device: a quarter of the bytes travel.
    """
    target = torch.device(device)
    stream: Any = torch.cuda.Stream(target) if target.type == "cuda" else None
    ready: deque[tuple[Batch, Any]] = deque()
    with closing(source):
        for batch in source:
            ready.append(_sent(batch, target, stream, floats=floats))
            del batch
            if len(ready) > (AHEAD if stream is not None else 0):
                yield _received(*ready.popleft(), target)
        while ready:
            yield _received(*ready.popleft(), target)


def _sent(batch: Batch, target: torch.device, stream: Any, *, floats: bool) -> tuple[Batch, Any]:
    """Start the copies; the batch's own memory is let go under the stream that reads it, see `Pool`."""
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        found = {k: v.to(target, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        batch.clear()
        if floats:
            found = {k: v.float().div_(255) if _is_picture(k, v) else v for k, v in found.items()}
        return found, stream.record_event() if stream is not None else None


def _received(batch: Batch, sent: Any, target: torch.device) -> Batch:
    """Let the consumer's stream wait for the copies, and keep their memory until that stream is done with it."""
    if sent is not None:
        current = torch.cuda.current_stream(target)
        current.wait_event(sent)
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(current)
    return batch


def _is_picture(key: str, value: Any) -> bool:
    return IMAGES_PART in key and isinstance(value, torch.Tensor) and value.dtype == torch.uint8
