"""What the data itself says about its phases: columns a simulator or an annotator recorded. The annotator never reads them."""

import re
from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.motion.read import step_column
from annotators.segments.config import PHASES
from schemas.contract import Contract, Feature
from transforms.grid import I64
from transforms.rotation import F64

_WHOLE = re.compile(r"(^|[._/])(phase|subtask|stage|skill|segment)(_index|_id)?$", re.IGNORECASE)
_SIGNAL = re.compile(r"(^|[._/])subtask[._/]", re.IGNORECASE)
MERGE_S = 0.3  # flags that turn within this time tell of one event


@dataclass(frozen=True, slots=True)
class Truth:
    """True phases of a batch.

    Attributes:
        label: int64[T].
        named: whether a label is an index into `PHASES`; otherwise it only tells phases apart.
        boundaries: per episode, seconds after its first step at which the true phase changes.
        told_by: the columns.
    """

    label: I64
    named: bool
    boundaries: tuple[F64, ...]
    told_by: str


def truth_columns(contract: Contract) -> tuple[str, ...]:
    """Name the columns that tell phases: one of them, or a family of subtask flags; empty where there are none."""
    whole = [f.name for f in contract.features if _WHOLE.search(f.name) and f.size == 1]
    signals = [f.name for f in contract.features if _SIGNAL.search(f.name) and f.dtype == "bool" and f.size == 1]
    return tuple(whole[:1] or signals)


def find_truth(batch: Batch) -> Truth | None:
    """Read the true phases; None where the data does not tell them."""
    names = truth_columns(batch.contract)
    if not names or not batch.episodes or any(n not in batch.steps.column_names for n in names):
        return None
    features = [batch.contract.feature(n) for n in names]
    columns = [_codes(batch, f) for f in features]
    label = np.unique(np.stack(columns), axis=1, return_inverse=True)[1].reshape(-1) if len(columns) > 1 else columns[0]
    edges = tuple(_changes(batch, at, label) for at in range(len(batch.episodes)))
    return Truth(label.astype(np.int64), features[0].names == PHASES, edges, ", ".join(names))


def _codes(batch: Batch, feature: Feature) -> I64:
    column = batch.steps.column(feature.name)
    if feature.dtype == "string":
        return np.unique(np.array([t or "" for t in column.to_pylist()]), return_inverse=True)[1].astype(np.int64)
    return np.nan_to_num(step_column(column)[0], nan=-1).astype(np.int64)


def _changes(batch: Batch, episode: int, label: I64) -> F64:
    a, b = batch.starts[episode], batch.starts[episode + 1]
    at = np.flatnonzero(label[a + 1 : b] != label[a : b - 1]) + a + 1
    seconds = (batch.t_ns[at] - batch.t_ns[a]) * 1e-9
    kept: list[float] = []
    for when in seconds.tolist():
        if not kept or when - kept[-1] > MERGE_S:
            kept.append(when)
    return np.array(kept)
