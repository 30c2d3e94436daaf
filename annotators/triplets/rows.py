"""Pairs as rows: what is kept of a judged pair, duplicates, hard negatives, and the columns of the annotator's table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from annotators.triplets.change import Part
from annotators.triplets.config import TripletsConfig
from annotators.triplets.filters import ARM_ONLY, Judged
from annotators.triplets.words import turned_around
from schemas.annotation import NAME
from transforms.goals import drawn_unit
from transforms.grid import BOOL

TYPICAL_AREA, AREA_SPREAD = 0.02, 0.1  # of the picture: how large one change usually is, and how fast its score falls
SAME_PLACE = 0.5  # intersection over union of two changes from which they are at one place

PROVIDES = pa.schema(
    [
        pa.field("label", NAME),  # one of `annotators.triplets.config.LABELS`
        pa.field("candidate", NAME),  # how the pair was found
        pa.field("filter", NAME),  # which filter refused it; null where none did
        pa.field("prompt", NAME),
        pa.field("source_ns", pa.int64()),  # when the source picture is shown, on the clock of its episode
        pa.field("target_ns", pa.int64()),
        pa.field("source_episode", NAME),  # where it is not the row's episode: counterfactuals, negatives of another take
        pa.field("target_episode", NAME),
        pa.field("factor", NAME),  # what a simulator was told to change, of counterfactuals
        pa.field("edit_kind", NAME),
        pa.field("phase", NAME),
        pa.field("object", NAME),
        pa.field("mask_png", pa.binary()),  # what changed, 8 bit, at working size
        pa.field("source_box", pa.list_(pa.float32())),  # x0 y0 x1 y1 of width and height: where it was
        pa.field("target_box", pa.list_(pa.float32())),  # where it is
        pa.field("moved", pa.list_(pa.float32())),  # dx dy of width and height; null where nothing is seen to go
        pa.field("camera_px", pa.float32()),  # motion of the camera, at a longer side of 256
        pa.field("changed", pa.float32()),  # share of the picture, the robot's part included
        pa.field("parts", pa.int16()),  # of the change outside of the robot
        pa.field("ssim_outside", pa.float32()),
        pa.field("ssim_whole", pa.float32()),
        pa.field("object_px", pa.float32()),  # length of `moved`, at a longer side of 256
        pa.field("minimality", pa.float32()),  # exp(-|area - usual| / spread) x ssim_outside, 0 for more than two parts
        pa.field("shift", pa.list_(pa.float32())),  # dx dy of width and height by which `neg_camera` shifts its source
    ]
)
_NAMES = tuple(f.name for f in PROVIDES if f.type == NAME)


@dataclass(frozen=True, slots=True)
class Row:
    """One row; its fields are the columns of `PROVIDES`, and the span [first, stop) in steps of its episode."""

    first: int
    stop: int
    reason: str | None = None
    confidence: float | None = None
    label: str | None = None
    candidate: str | None = None
    filter: str | None = None
    prompt: str | None = None
    source_ns: int | None = None
    target_ns: int | None = None
    source_episode: str | None = None
    target_episode: str | None = None
    factor: str | None = None
    edit_kind: str | None = None
    phase: str | None = None
    object: str | None = None
    mask_png: bytes | None = None
    source_box: tuple[float, ...] | None = None
    target_box: tuple[float, ...] | None = None
    moved: tuple[float, ...] | None = None
    camera_px: float | None = None
    changed: float | None = None
    parts: int | None = None
    ssim_outside: float | None = None
    ssim_whole: float | None = None
    object_px: float | None = None
    minimality: float | None = None
    shift: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A row and what tells it from others: the hashes of its pictures, 64 bits each, and where it changed."""

    row: Row
    hashes: tuple[int, int] = (0, 0)
    change: BOOL | None = None


def with_verdict(row: Row, judged: Judged) -> Kept:
    """Return a row with what the filters found; the hashes are taken of accepted pairs only."""
    e, measured = judged.evidence, dict[str, Any]()
    known = e.__dict__  # what was asked for before the first refusal
    if "camera" in known:
        measured["camera_px"] = e.camera.px
    if "change" in known:
        measured["changed"] = float(e.change.mean())
    if "parts" in known:
        measured["parts"] = len(e.parts)
    if "likeness" in known:
        measured["ssim_outside"], measured["ssim_whole"] = e.likeness
    if judged.reason == ARM_ONLY:
        found = replace(row, label=ARM_ONLY, edit_kind=ARM_ONLY, confidence=judged.confidence, **measured)
        return Kept(replace(found, mask_png=_png(e.change)))
    if judged.reason is not None or judged.moved is None:
        return Kept(replace(row, reason=judged.reason, filter=judged.filter, **measured))
    return _accepted(row, judged, measured)


def without_duplicates(kept: Sequence[Kept], most_bits: int) -> list[Kept]:
    """Refuse pairs that look like a better one of the same episode and change the same place; the order stays."""
    order = sorted(range(len(kept)), key=lambda n: (-(kept[n].row.confidence or 0.0), n))
    best: list[Kept] = []
    result = list(kept)
    for n in order:
        one = kept[n]
        if one.row.label != "positive":
            continue
        if any(_alike(one, other, most_bits) for other in best):
            result[n] = Kept(replace(one.row, label=None, reason="duplicate", filter="duplicate", confidence=None))
        else:
            best.append(one)
    return result


def negatives_of(row: Row, others: Sequence[Row], config: TripletsConfig, *key: str | int) -> list[Row]:
    """Return hard negatives of a positive.

    Args:
        row: the positive.
        others: positives of the same scene.
        config: how far the camera of one of them moves.
        key: ids that name the pair, for the direction in which it does.
    """
    plain = replace(row, mask_png=None, source_box=None, target_box=None, moved=None, object_px=None, minimality=None)
    found = [
        replace(
            plain, label="neg_reverse", source_ns=row.target_ns, target_ns=row.source_ns, source_episode=row.target_episode,
            target_episode=row.source_episode,
        ),
        replace(plain, label="neg_no_change", target_ns=row.source_ns, target_episode=row.source_episode),
    ]  # fmt: skip
    if wrong := turned_around(row.prompt or ""):
        found.append(replace(plain, label="neg_direction", prompt=wrong))
    far = [o for o in others if o.prompt != row.prompt and (o.source_ns, o.source_episode) != (row.source_ns, row.source_episode)]
    if far:
        other = max(far, key=lambda o: (abs((o.source_ns or 0) - (row.source_ns or 0)), o.prompt or ""))
        found.append(replace(plain, label="neg_scene", source_ns=other.source_ns, source_episode=other.source_episode))
    angle = 2 * np.pi * drawn_unit("neg_camera", *key, row.source_ns or 0, row.target_ns or 0)
    shift = (config.shift_px / 256 * float(np.cos(angle)), config.shift_px / 256 * float(np.sin(angle)))
    return [*found, replace(plain, label="neg_camera", shift=shift)]


def columns_of(rows: Sequence[Row]) -> dict[str, pa.Array]:
    """Lay rows out as the annotator's own columns."""
    found: dict[str, pa.Array] = {}
    for f in PROVIDES:
        values = [getattr(r, f.name) for r in rows]
        found[f.name] = pa.array(values, pa.string()).dictionary_encode() if f.name in _NAMES else pa.array(values, f.type)
    return found


def _accepted(row: Row, judged: Judged, measured: dict[str, Any]) -> Kept:
    from transforms.curation.visual import perceptual_hash

    e, moved = judged.evidence, judged.moved
    assert moved is not None
    height, width = e.source.shape[:2]
    area = float(e.outside.mean())
    score = float(np.exp(-abs(area - TYPICAL_AREA) / AREA_SPREAD)) * max(e.likeness[0], 0.0) * (len(e.parts) <= 2)
    going = None if moved.dx is None or moved.dy is None else (moved.dx / width, moved.dy / height)
    found = replace(
        row, label="positive", confidence=judged.confidence, edit_kind=moved.kind, mask_png=_png(e.outside),
        source_box=_box(moved.before, width, height), target_box=_box(moved.after, width, height), moved=going,
        object_px=None if moved.dx is None or moved.dy is None else float(np.hypot(moved.dx, moved.dy)), minimality=score, **measured,
    )  # fmt: skip
    return Kept(found, (perceptual_hash(e.source), perceptual_hash(e.target)), e.outside)


def _alike(one: Kept, other: Kept, most_bits: int) -> bool:
    bits = sum((a ^ b).bit_count() for a, b in zip(one.hashes, other.hashes, strict=True))
    if bits > most_bits or one.change is None or other.change is None or one.change.shape != other.change.shape:
        return False
    return float((one.change & other.change).sum()) > SAME_PLACE * float((one.change | other.change).sum())


def _box(part: Part, width: int, height: int) -> tuple[float, ...]:
    x0, y0, x1, y1 = part.box
    return (x0 / width, y0 / height, x1 / width, y1 / height)


def _png(mask: BOOL) -> bytes:
    import cv2

    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
