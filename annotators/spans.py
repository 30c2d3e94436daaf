"""Lays out the columns every annotation row carries, from rows of a batch: ids, clock, steps, validity; and reads them back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from annotators.base import Annotator, Batch
from schemas.annotation import NAME, annotation_schema
from transforms.grid import BOOL, I64


def span_table(
    annotator: Annotator,
    batch: Batch,
    first: I64,
    stop: I64,
    reasons: pa.Array | list[str | None],
    own: Mapping[str, Any],
    *,
    camera: pa.Array | None = None,
    confidence: pa.Array | None = None,
) -> pa.Table:
    """Return rows of an annotator's schema.

    Args:
        annotator: whose rows they are.
        batch: what they are about.
        first: int64[K], row of `batch.steps` where each span begins; grouped by episode, sorted inside it.
        stop: int64[K], row after its last; never beyond the episode. A span ends where the next step begins, or the episode does.
        reasons: why a span is not valid; null where it is.
        own: the annotator's own columns, arrays of K.
        camera: the view each row depends on.
        confidence: float32, in 0..1 or null.
    """
    count = len(first)
    episode = np.searchsorted(batch.starts, first, side="right") - 1
    last = stop == batch.starts[episode + 1]
    after = np.where(last, batch.end_ns[episode], batch.t_ns[np.minimum(stop, batch.steps.num_rows - 1)])
    why = reasons if isinstance(reasons, pa.Array) else pa.array(reasons, pa.string()).dictionary_encode()
    values: dict[str, Any] = {
        "episode_id": pa.DictionaryArray.from_arrays(pa.array(episode.astype(np.int32)), pa.array(batch.episodes, pa.string())),
        "start_ns": batch.t_ns[first], "end_ns": after,
        "start_step": (first - batch.starts[episode]).astype(np.int32), "end_step": (stop - batch.starts[episode]).astype(np.int32),
        "camera": pa.nulls(count, NAME) if camera is None else camera, "annotator_fp": constant(annotator.fingerprint(), count),
        "valid": why.is_null(), "reason": why, "confidence": pa.nulls(count, pa.float32()) if confidence is None else confidence, **own,
    }  # fmt: skip
    schema = annotation_schema(annotator.provides)
    return pa.table([values[f.name] for f in schema], schema=schema)


def nothing(annotator: Annotator, batch: Batch, reason: str) -> pa.Table:
    """Return one invalid row per episode: there is nothing to say about any of it, and this is why."""
    own = {f.name: pa.nulls(len(batch.episodes), f.type) for f in annotator.provides}
    return span_table(annotator, batch, batch.starts[:-1], batch.starts[1:], [reason] * len(batch.episodes), own)


def episodes_of(rows: pa.Table, batch: Batch) -> I64:
    """Return the place in the batch of each row's episode, int64[K]."""
    place = {name: at for at, name in enumerate(batch.episodes)}
    return np.array([place[e] for e in rows.column("episode_id").cast(pa.string()).to_pylist()], np.int64)


def lists(values: Any, lengths: I64, valid: BOOL, kind: pa.DataType) -> pa.ListArray:
    """Return a list column whose row i holds the next `lengths[i]` of `values`; null where not valid, whose length is 0."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, kind), mask=pa.array(~valid))


def constant(text: str, count: int) -> pa.DictionaryArray:
    """Return a dictionary column that says the same everywhere."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text], pa.string()))
