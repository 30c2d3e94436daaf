"""Batches without worker processes: what `MixtureDataset.loader` returns."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from pipelines.loader.dataset import Batches, Memory, MixtureDataset
from pipelines.loader.device import carried
from pipelines.loader.fields import Field
from pipelines.loader.pool import Pool, give_back
from pipelines.loader.prefetch import Batch, prefetch
from pipelines.loader.ring import BlockRing
from schemas.errors import UsageError

KEPT = 1 << 20  # unused pieces of memory of each size: blocks never take more than their ring's bytes


@dataclass
class Loader:
    """One rank's batches, in the order of the plan; every iteration starts where `batches` does. See `MixtureDataset.loader`.

    Attributes:
        dataset: where samples come from.
        batches: which ones.
        threads: that read; 0: the consumer's own.
        ahead: batches that may be ready or in the making.
        ring_bytes: most memory for decoded blocks.
        device: where batches are given, see `pipelines.loader.device`; None: in this process's memory, page-locked where there is a GPU.
        floats: whether pictures are float32 from 0 to 1 instead of uint8.
    """

    dataset: MixtureDataset
    batches: Batches
    threads: int
    ahead: int
    ring_bytes: int
    device: str | None = None
    floats: bool = False
    _given: int = 0
    _memory: Memory | None = None

    def __post_init__(self) -> None:
        if self.threads < 0 or self.ahead < 1:
            raise UsageError(f"threads={self.threads}, ahead={self.ahead}; threads is 0 or more, ahead at least 1")

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        memory = self._memory = self._memory or self.memory()
        self._given = 0
        source = prefetch(iter(self.batches), lambda p: self.dataset.batch(p, memory), threads=self.threads, ahead=self.ahead)
        if self.device is not None or self.floats:
            source = carried(source, self.device or "cpu", floats=self.floats)
        return self._counted(source)

    @property
    def decodes_once(self) -> bool:
        """Whether blocks are decoded once for all their samples: the order stays near, and its window fits into `ring_bytes`."""
        needed = block_bytes(self.dataset)
        return needed is not None and 0 < needed <= self.ring_bytes

    def memory(self) -> Memory:
        """Return fresh pools; a loader makes them once and every iteration uses them again."""
        pinned = torch.cuda.is_available()
        needed = block_bytes(self.dataset) or 0
        # Windows of several instants make a block's pictures a few more than its steps.
        ring = BlockRing(min(self.ring_bytes, needed + needed // 8)) if self.decodes_once else None
        # Beyond `ahead`, the consumer holds one batch, and one more while it asks for the next, or while it is on its way to a GPU.
        return Memory(Pool(self.ahead + 2, pinned=pinned), Pool(KEPT), ring)

    def state(self) -> Mapping[str, Any]:
        """Return what `resume` needs to go on after the batch that was given last."""
        return self.batches.state(self._given)

    def _counted(self, source: Generator[Batch]) -> Iterator[Batch]:
        try:
            for batch in source:
                self._given += 1
                yield batch
                del batch  # or it would be held while the next one is waited for
        finally:
            source.close()
            if self.threads:
                give_back()


def block_bytes(dataset: MixtureDataset) -> int | None:
    """Return the memory that the pictures of the order's window need, 0 if it is unknown; None: the order stays nowhere."""
    windows = dataset.locator.window_steps()
    if windows is None:
        return None
    sizes = [steps * sum(map(_picture_bytes(dataset), dataset.reader.fields[name])) for name, steps in windows]
    known = all(prod(_sides(dataset, f)) for name, _ in windows for f in dataset.reader.fields[name] if f.kind == "picture")
    return sum(sizes) if known else 0


def _picture_bytes(dataset: MixtureDataset) -> Any:
    return lambda field: 3 * prod(_sides(dataset, field)) if field.kind == "picture" else 0


def _sides(dataset: MixtureDataset, field: Field) -> tuple[int, ...]:
    return dataset.reader.image_size or field.shape[1:]
