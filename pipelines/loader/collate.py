"""Samples of different robots, people and simulators in one batch: padded to one layout, with masks that say what is real."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.loader.fields import Field
from pipelines.loader.pool import Pool
from schemas.errors import UsageError

TEXTS = ("task", "episode_id", "dataset", "source")
NUMBERS = {"index": "int64", "frame_index": "int64", "timestamp": "float32"}


@dataclass(frozen=True, slots=True)
class Slot:
    """One key of every batch: the widest it can be. `steps` None: no time axis; a 0 in `shape` is settled by each batch.

    `channels_last` lays [3, H, W] out as [H, W, 3] in memory, the way decoders write and GPUs convolve.
    """

    key: str
    dtype: str
    steps: int | None
    shape: tuple[int, ...]
    ragged: bool = False
    channels_last: bool = False

    @property
    def lead(self) -> tuple[int, ...]:
        """The time axis, where there is one."""
        return () if self.steps is None else (self.steps,)


@dataclass(frozen=True, slots=True)
class Collate:
    """A `collate_fn`: every batch has the same keys, whichever sources it drew.

    - each field: [B, ...] or [B, K, ...], zero where a sample is smaller (trailing end), shorter, or does not have it;
    - `<field>_is_pad`: bool [B, K] (or [B] without a time axis), true for padding and where a sample does not have the field;
    - `<field>_dim_is_pad`: bool [B, D], for vectors whose width differs between datasets: true beyond a sample's own width;
    - `index`, `frame_index` int64[B], `timestamp` float32[B]; `task`, `episode_id`, `dataset`, `source` and string features: lists.
    """

    slots: tuple[Slot, ...]

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return one batch of B samples."""
        shapes = {s.key: _shape(s, samples) for s in self.slots if s.dtype != "string"}
        room = Room(self.slots, shapes, len(samples))
        for row, sample in enumerate(samples):
            room.place(row, sample)
        return room.batch()

    @property
    def fixed(self) -> bool:
        """Whether every batch of B samples has the same shapes, known before the first is read."""
        return all(0 not in (*s.lead, *s.shape) for s in self.slots if s.dtype != "string")

    def room(self, count: int, pool: Pool | None = None) -> "Room":
        """Return an empty batch of `count` rows on one piece of the pool's memory; only where `fixed`."""
        return Room(self.slots, {s.key: (*s.lead, *s.shape) for s in self.slots if s.dtype != "string"}, count, pool)


class TooLargeError(Exception):
    """A sample is larger than its dataset's contract says, so that the batch must be made to measure. Never leaves the loader."""


class Room:
    """The memory of one batch, filled row by row; rows may be filled in any order, each once."""

    def __init__(
        self, slots: tuple[Slot, ...], shapes: Mapping[str, tuple[int, ...]], count: int, pool: Pool | None = None
    ) -> None:
        self._slots = slots
        plan = list(_arrays(slots, shapes, count))
        sizes = [_aligned(math.prod(shape) * dtype.itemsize) for _, shape, dtype, _ in plan]
        memory = np.empty(sum(sizes), np.uint8) if pool is None else pool.take(sum(sizes))
        self._data: dict[str, npt.NDArray[Any]] = {}
        self._laid: dict[str, npt.NDArray[Any]] = {}  # pictures, channels last
        start = 0
        for (key, shape, dtype, turned), size in zip(plan, sizes, strict=True):
            array = memory[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
            self._data[key] = np.moveaxis(array, -1, -3) if turned else array
            if turned:
                self._laid[key] = array
            start += size
        self._texts = [*TEXTS, *(s.key for s in slots if s.dtype == "string")]
        self._samples: list[Mapping[str, Any]] = [{}] * count
        self._targets: list[Mapping[str, npt.NDArray[Any]]] = [{}] * count

    def targets(self, row: int) -> dict[str, npt.NDArray[Any]]:
        """Return where the pictures of `row` may be decoded to, [H, W, 3] or [K, H, W, 3] per key."""
        found = self._targets[row] = {key: array[row] for key, array in self._laid.items()}
        return found

    def place(self, row: int, sample: Mapping[str, Any]) -> None:
        """Give a sample its row; what it already wrote to `targets` stays where it is."""
        self._samples[row] = sample

    def batch(self) -> dict[str, Any]:
        """Return the batch as torch tensors on this memory. Every row must have been placed.

        Raises:
            TooLargeError: a sample does not fit.
        """
        texts = {name: [s.get(name, "") for s in self._samples] for name in self._texts}
        for key in NUMBERS:
            self._data[key][:] = [s[key] for s in self._samples]
        for slot in self._slots:
            if slot.dtype != "string":
                self._fill(slot)
        return {**texts, **{key: torch.from_numpy(array) for key, array in self._data.items()}}

    def _fill(self, slot: Slot) -> None:
        """Write one key of all rows, at once where every sample is of the batch's shape."""
        data, is_pad = self._data[slot.key], self._data[f"{slot.key}_is_pad"]
        values = [None if (v := s.get(slot.key)) is None else np.asarray(v) for s in self._samples]
        masks = [np.asarray(s.get(f"{slot.key}_is_pad", False)) for s in self._samples]
        here = [v is not None and v is t.get(slot.key) for v, t in zip(values, self._targets, strict=True)]
        if all(here):
            _stack(masks, is_pad)
        elif not slot.channels_last and all(v is not None and v.shape == data.shape[1:] for v in values):
            _stack(values, data)
            _stack(masks, is_pad)
        else:
            for row, value in enumerate(values):
                if value is None:
                    data[row], is_pad[row] = 0, True
                elif here[row]:
                    is_pad[row] = masks[row]
                else:
                    _copy(slot, value, masks[row], data[row : row + 1], is_pad[row : row + 1])
        if slot.ragged:
            self._mark_width(slot, values)

    def _mark_width(self, slot: Slot, values: Sequence[npt.NDArray[Any] | None]) -> None:
        own = self._data[f"{slot.key}_dim_is_pad"]
        own[:] = True
        for row, value in enumerate(values):
            if value is not None:
                own[row, : value.shape[-1] if value.ndim else 1] = False


def _stack(values: Sequence[Any], out: npt.NDArray[Any]) -> None:
    """Write values of one row each to `out`; a mask without a time axis counts for all of it."""
    if out.ndim > 1 and out.shape[1] and all(v.shape == out.shape[1:] for v in values):
        np.concatenate(values, out=out.reshape(-1, *out.shape[2:]))
        return
    for row, value in enumerate(values):
        out[row] = value


def _copy(
    slot: Slot, value: npt.NDArray[Any], mask: npt.NDArray[Any], data: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_]
) -> None:
    """Write one row; `data` is [1, *lead, ...] and `is_pad` [1, *lead]."""
    shape = data.shape[1:]
    if value.shape == shape:
        data[0], is_pad[0] = value, mask
        return
    if value.ndim != len(shape) or any(n > most for n, most in zip(value.shape, shape, strict=True)):
        raise TooLargeError(f"{slot.key}: a sample of shape {value.shape} does not fit into {shape}")
    data[0], is_pad[0] = 0, True
    data[(0, *(slice(0, n) for n in value.shape))] = value
    is_pad[(0, *(slice(0, n) for n in value.shape[: len(slot.lead)]))] = mask


def layout(fields: Iterable[Sequence[Field]], image_size: tuple[int, int] | None = None) -> tuple[Slot, ...]:
    """Return the slots that hold every dataset's fields, in order of first appearance.

    Raises:
        UsageError: datasets disagree about a key's number of dimensions, or whether it is text.
    """
    groups: dict[str, list[Field]] = {}
    for group in fields:
        for field in group:
            groups.setdefault(field.key, []).append(field)
    return tuple(_slot(key, found, image_size) for key, found in groups.items())


def _slot(key: str, found: list[Field], image_size: tuple[int, int] | None) -> Slot:
    shapes = [f.shape if f.kind == "feature" or image_size is None else (f.shape[0], *image_size) for f in found]
    texts = {f.dtype == "string" for f in found}
    if len({len(s) for s in shapes}) > 1 or len(texts) > 1:
        seen = sorted({f"{f.dtype}{list(f.shape)}" for f in found})
        raise UsageError(f"datasets disagree about {key}: {', '.join(seen)}; choose others with keys=[...]")
    if texts == {True}:
        return Slot(key, "string", None, ())
    widest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    steps = [len(f.offsets_ns) for f in found if f.offsets_ns is not None]
    dtype = str(np.result_type(*(np.dtype(f.dtype) for f in found)))
    _check_dtype(dtype)
    ragged = found[0].kind == "feature" and len(widest) == 1 and len(set(shapes)) > 1
    return Slot(key, dtype, max(steps) if steps else None, widest, ragged, all(f.kind == "picture" for f in found))


def _check_dtype(name: str) -> None:
    if not isinstance(getattr(torch, name, None), torch.dtype):
        raise UsageError(f"torch has no dtype {name}; choose other features with keys=[...]")


def _shape(slot: Slot, samples: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    present = [s[slot.key].shape for s in samples if s.get(slot.key) is not None]
    return tuple(max(sizes) for sizes in zip((*slot.lead, *slot.shape), *present, strict=True))


def _arrays(
    slots: tuple[Slot, ...], shapes: Mapping[str, tuple[int, ...]], count: int
) -> Iterator[tuple[str, tuple[int, ...], np.dtype[Any], bool]]:
    """Yield key, shape in memory, dtype, and whether channels are last there."""
    for key, dtype in NUMBERS.items():
        yield key, (count,), np.dtype(dtype), False
    for slot in slots:
        if slot.dtype == "string":
            continue
        shape, flag = shapes[slot.key], np.dtype(np.bool_)
        laid = (*shape[:-3], *shape[-2:], shape[-3]) if slot.channels_last else shape
        yield slot.key, (count, *laid), np.dtype(slot.dtype), slot.channels_last
        yield f"{slot.key}_is_pad", (count, *shape[: len(slot.lead)]), flag, False
        if slot.ragged:
            yield f"{slot.key}_dim_is_pad", (count, shape[-1] if shape else 1), flag, False


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
