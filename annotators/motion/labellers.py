"""What evaluations of language motions judge: any function from a batch to step labels, and how its steps are counted."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.motion.labels import StepLabels
from transforms.grid import BOOL, I64
from transforms.rotation import F64

RATES = (5, 10, 20, 30, 50)

type Labeller = Callable[[Batch], StepLabels | str]
type Baselines = Mapping[str, Labeller | None]


def labels_of(label: Labeller, batch: Batch) -> StepLabels:
    """Return the labels of a dataset that is known to have some."""
    labels = label(batch)
    assert not isinstance(labels, str)  # usable() was asked before
    return labels


def share_of(base: BOOL, hits: BOOL) -> float:
    """Return how many steps of `base` are hits."""
    return float(hits.sum() / max(int(base.sum()), 1))


def per_episode(batch: Batch, marks: npt.NDArray[np.floating] | BOOL) -> F64:
    """Sum over the steps of each episode, float64[E]."""
    return np.add.reduceat(np.asarray(marks, np.float64), batch.starts[:-1])


def shared_instants(view: Batch, hz: int) -> list[I64]:
    """Return, per episode, the steps of a view sampled at `hz` at the instants that all `RATES` have."""
    return [np.arange(a, b, hz // RATES[0]) for a, b in zip(view.starts[:-1], view.starts[1:], strict=True)]
