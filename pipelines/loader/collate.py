"""Samples of different robots, people and simulators in one batch: padded to one layout, with masks that say what is real."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines.loader.fields import Field
from schemas.errors import UsageError

TEXTS = ("task", "episode_id", "dataset", "source")
NUMBERS = {"index": torch.int64, "frame_index": torch.int64, "timestamp": torch.float32}


@dataclass(frozen=True, slots=True)
class Slot:
    """One key of every batch: the widest it can be. `steps` None: no time axis; a 0 in `shape` is settled by each batch."""

    key: str
    dtype: str
    steps: int | None
    shape: tuple[int, ...]
    ragged: bool = False


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
        batch: dict[str, Any] = {key: [s[key] for s in samples] for key in TEXTS}
        batch |= {key: torch.tensor([s[key] for s in samples], dtype=kind) for key, kind in NUMBERS.items()}
        for slot in self.slots:
            if slot.dtype == "string":
                batch[slot.key] = [s.get(slot.key, "") for s in samples]
            else:
                self._fill(batch, slot, samples)
        return batch

    def _fill(self, batch: dict[str, Any], slot: Slot, samples: Sequence[Mapping[str, Any]]) -> None:
        values = [s.get(slot.key) for s in samples]
        lead = () if slot.steps is None else (slot.steps,)
        present = [v.shape for v in values if v is not None]
        shape = tuple(max(sizes) for sizes in zip((*lead, *slot.shape), *present, strict=True))
        out = torch.zeros((len(samples), *shape), dtype=_torch_dtype(slot.dtype))
        is_pad = torch.ones((len(samples), *shape[: len(lead)]), dtype=torch.bool)
        own = torch.ones((len(samples), shape[-1] if shape else 1), dtype=torch.bool)
        for i, value in enumerate(values):
            if value is None:
                continue
            out[(i, *(slice(0, n) for n in value.shape))] = value
            mask = samples[i].get(f"{slot.key}_is_pad", False)
            is_pad[(i, *(slice(0, n) for n in value.shape[: len(lead)]))] = mask
            own[i, : value.shape[-1] if value.ndim else 1] = False
        batch[slot.key], batch[f"{slot.key}_is_pad"] = out, is_pad
        if slot.ragged:
            batch[f"{slot.key}_dim_is_pad"] = own


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
    ragged = found[0].kind == "feature" and len(widest) == 1 and len(set(shapes)) > 1
    return Slot(key, dtype, max(steps) if steps else None, widest, ragged)


def _torch_dtype(name: str) -> torch.dtype:
    kind = getattr(torch, {"bool": "bool"}.get(name, name), None)
    if not isinstance(kind, torch.dtype):
        raise UsageError(f"torch has no dtype {name}; choose other features with keys=[...]")
    return kind
