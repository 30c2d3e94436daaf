"""A mixture as a torch map-style dataset: sample t is draw t of the plan, whatever the thread, worker, rank or batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from annotators.device import choose_device
from pipelines.loader.collate import Collate, TooLargeError, layout
from pipelines.loader.drawn import Drawn
from pipelines.loader.episode import EpisodeView, episode_view
from pipelines.loader.locate import Located, Locator
from pipelines.loader.pool import Pool
from pipelines.loader.ring import RING_BYTES, BlockRing, Blocks
from pipelines.loader.samples import Sample, SampleReader
from pipelines.mixture.index import Index, Split
from pipelines.mixture.plan import Order, rank_slice
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pipelines.loader.loader import Loader


@dataclass(frozen=True, slots=True)
class Memory:
    """What batches are made of: recycled buffers, and decoded blocks where the order stays near (`ring` None: it does not)."""

    batches: Pool
    blocks: Pool
    ring: BlockRing | None = None


class MixtureDataset(Dataset[Sample]):
    """Draws of a mixture (or steps of a dataset) as LeRobot-named samples.

    `dataset[t]` is a pure function of t: pictures uint8 [3, H, W] (with a window [K, 3, H, W]), features with their own dtype,
    `<key>_is_pad` bool[K] beside every window, `task` and the other texts of `SampleReader.read` as str, and `index` = t. A field
    that a source lacks is absent; `collate` pads and masks it.
    """

    def __init__(
        self, reader: SampleReader, index: Index, order: Order, split: Split = "train", drawn: Drawn | None = None
    ) -> None:
        self.reader, self.index, self.order, self.drawn = reader, index, order, drawn or Drawn()
        self.split: Split = split
        self._once = not index.is_weighted  # every step is drawn once per epoch
        self.collate = Collate(layout(reader.fields.values(), reader.image_size))
        self.locator = Locator(index, order, split)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Sample:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Sample]:
        """Return the samples of several positions: what `DataLoader` calls with a whole batch."""
        return [_tensors(self._read(found)) for found in self.locator(positions)]

    def batch(self, positions: Sequence[int], memory: Memory | None = None) -> dict[str, Any]:
        """Return `collate` of the samples of several positions, decoded straight into the batch. Thread-safe.

        Args:
            positions: of the order, [B].
            memory: recycled by the caller; None: new.
        """
        found = self.locator(positions)
        if self.collate.fixed:
            room = self.collate.room(len(found), memory.batches if memory else None)
            for row, one in enumerate(found):
                room.place(row, self._read(one, room.targets(row), self._blocks(one, memory)))
            try:
                return room.batch()
            except TooLargeError:
                pass  # a contract understates a size; the batch is made to measure, as below
        return self.collate([self._read(one, None, self._blocks(one, memory)) for one in found])

    def loader(
        self,
        batch_size: int,
        *,
        threads: int = 2,
        rank: int = 0,
        world: int = 1,
        resume: Mapping[str, Any] | None = None,
        drop_last: bool = True,
        ahead: int | None = None,
        ring_bytes: int = RING_BYTES,
        device: str | None = None,
        floats: bool = False,
    ) -> "Loader":
        """Return one rank's batches, read ahead by threads of this process: the fast alternative to `DataLoader`.

        Batches are those of `DataLoader(self, batch_sampler=self.batches(...), collate_fn=self.collate)`, in the same order. Their
        tensors are page-locked where there is a GPU, and pictures are laid out channels last. A batch stays valid for as long as
        it is kept; its memory is used again afterwards.

        Args:
            batch_size: of the whole world, as in `batches`.
            threads: that read; 0: the caller's own.
            rank: this process.
            world: number of processes.
            resume: what `Loader.state` or `Batches.state` returned.
            drop_last: leave out an incomplete last batch.
            ahead: batches that may be ready or in the making; None: as many as there are threads.
            ring_bytes: for decoded blocks, where the order has locality or is sequential; used only if the order's window fits.
            device: `cuda` or `cuda:<number>`: batches are copied there beside the device's own work, a batch ahead; `auto`: to a GPU
                where there is one; None: batches stay in this process's memory.
            floats: pictures are float32 from 0 to 1, turned on the device; uint8 otherwise.

        Raises:
            UsageError: the batch does not divide evenly, `resume` belongs to another order, or there is no such device.

        Example:
            >>> loader = dataset.loader(64, threads=2)
            >>> for batch in loader:
            ...     policy.forward(batch)
        """
        from pipelines.loader.loader import Loader

        batches = self.batches(batch_size, rank=rank, world=world, resume=resume, drop_last=drop_last)
        where = None if device is None else choose_device(device)
        return Loader(self, batches, threads, max(threads, 1) if ahead is None else ahead, ring_bytes, where, floats)

    def _blocks(self, found: Located, memory: Memory | None) -> Blocks | None:
        """Return the decoded pictures that a sample shares with its neighbours, where the order has it near them."""
        if memory is None or memory.ring is None:
            return None
        ring, pool = memory.ring, memory.blocks
        span = self.locator.span(found)
        return ring.span((found.number, *span), lambda: self.reader.blocks(found.row, *span, ring, pool, once=self._once))

    def _read(self, found: Located, into: Mapping[str, Any] | None = None, blocks: Blocks | None = None) -> Sample:
        elsewhere = partial(self._elsewhere, found.source)
        sample = self.reader.read(found.row, found.step, into, blocks, found.position, elsewhere)
        sample["index"] = found.position
        return sample | own if (own := self.drawn.of_draw(found)) else sample

    def _elsewhere(self, source: int, unit: float) -> tuple[EpisodeView, str, int]:
        row, step = self.locator.anywhere(source, unit)
        view = episode_view(self.reader.lake, row.dataset, row.shard, row.episode_id)
        return view, row.dataset, step + row.first_row - view.first_row

    def batches(
        self,
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        resume: Mapping[str, Any] | None = None,
        drop_last: bool = True,
    ) -> "Batches":
        """Return the batch sampler of one rank.

        Args:
            batch_size: of the whole world; each rank gets `batch_size / world` samples of it.
            rank: this process.
            world: number of processes.
            resume: what `Batches.state` returned, in a run of any world and batch size.
            drop_last: leave out an incomplete last batch.

        Raises:
            UsageError: the batch does not divide evenly, or `resume` belongs to another order.
        """
        if resume is not None and resume["plan"] != self.order.hash:
            raise UsageError(
                f"the saved position belongs to plan {resume['plan']}, this mixture's is {self.order.hash}; "
                "open the mixture by the hash it was trained with, or start at the beginning"
            )
        start = 0 if resume is None else int(resume["position"])
        return Batches(self.order.hash, len(self), batch_size, rank, world, start, drop_last)


@dataclass(frozen=True, slots=True)
class Batches:
    """A batch sampler for `DataLoader(batch_sampler=...)`: contiguous positions, sliced by rank.

    `start` is the first position; batch b of the world covers `[start + b * batch_size, start + (b + 1) * batch_size)`.
    """

    plan: str
    samples: int
    batch_size: int
    rank: int = 0
    world: int = 1
    start: int = 0
    drop_last: bool = True

    def __post_init__(self) -> None:
        rank_slice(0, self.batch_size, self.rank, self.world)
        if not 0 <= self.start <= self.samples:
            raise UsageError(f"position {self.start} is not inside the order's {self.samples} draws")

    def __len__(self) -> int:
        left = self.samples - self.start
        return left // self.batch_size if self.drop_last else -(-left // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(len(self)):
            first, last = rank_slice(batch, self.batch_size, self.rank, self.world)
            if self.start + (batch + 1) * self.batch_size > self.samples:
                first, last = self._rest(batch)
            yield list(range(self.start + first, self.start + last))

    def state(self, batches: int) -> dict[str, Any]:
        """Return what `resume` needs after `batches` batches: the order and one position."""
        return {"plan": self.plan, "position": min(self.start + batches * self.batch_size, self.samples)}

    def _rest(self, batch: int) -> tuple[int, int]:
        begin = batch * self.batch_size
        rest = self.samples - self.start - begin
        return begin + rest * self.rank // self.world, begin + rest * (self.rank + 1) // self.world


def _tensors(sample: Sample) -> Sample:
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else _scalar(v) for k, v in sample.items()}


def _scalar(value: Any) -> Any:
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float32)
    return value if isinstance(value, str) else torch.as_tensor(value)
