"""Drafts as rows of the side table."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.spans import span_table
from annotators.text.draft import VERDICTS, Draft

if TYPE_CHECKING:
    from annotators.text.text import Text


AT = "at_ns"
_DISTANCE = ("pd", "s_k", "s_t", "pride_variant")
_GOAL = ("goal_value", "goal_tolerance")


def as_table(annotator: "Text", batch: Batch, drafts: list[list[Draft]]) -> pa.Table:
    """Lay out every episode's drafts, in order; at least one per episode."""
    flat = [d for some in drafts for d in some]
    base = np.repeat(batch.starts[:-1], [len(some) for some in drafts])
    first = base + np.array([d.first for d in flat], np.int64)
    stop = base + np.array([d.stop for d in flat], np.int64)
    own = {f.name: _column(f, flat) for f in annotator.provides if f.name != AT}
    moment = np.array([-1 if d.at is None else d.at for d in flat], np.int64)
    own[AT] = pa.array(batch.t_ns[base + np.maximum(moment, 0)], pa.int64(), mask=moment < 0)
    camera = batch.contract.cameras[0].name if batch.contract.cameras else None
    seen = pa.array([camera if d.style == "vqa" else None for d in flat], pa.string()).dictionary_encode()
    reasons = pa.array([d.reason for d in flat], pa.string()).dictionary_encode()
    return span_table(annotator, batch, first, stop, reasons, own, camera=seen)


def _column(field: pa.Field, drafts: list[Draft]) -> pa.Array:
    values = [_value(field.name, d) for d in drafts]
    if pa.types.is_dictionary(field.type):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, field.type)


def _value(name: str, d: Draft) -> Any:
    if name in VERDICTS:
        return d.verdicts.get(name)
    if name in _DISTANCE:
        return None if d.distance is None else d.distance[_DISTANCE.index(name)]
    if name in _GOAL:
        return None if d.goal is None else d.goal[_GOAL.index(name)]
    special: dict[str, Any] = {"gt_source": d.source, "choices": list(d.choices) or None}
    if name == "slots":
        return json.dumps(dict(d.slots), sort_keys=True, ensure_ascii=False) if d.slots else None
    return special[name] if name in special else getattr(d, name)
