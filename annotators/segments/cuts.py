"""Segmentations as plain numbers, whoever made them: the annotator, a baseline, or an adversarial twin. Evaluation only."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.source import find_source
from annotators.segments.config import PHASES, SegmentsConfig
from annotators.segments.tracks import read_tracks
from annotators.segments.truth import truth_columns
from annotators.spans import episodes_of
from transforms.cues import gripper_moves
from transforms.grid import I64
from transforms.rotation import F64


@dataclass(frozen=True, slots=True)
class Cuts:
    """Inner boundaries per episode, seconds after its first step, and a label per step, int64[T]; -1 where there is none."""

    boundaries: tuple[F64, ...]
    label: I64


type Cutter = Callable[[Batch], Cuts]


def cuts_of(rows: pa.Table, batch: Batch) -> Cuts:
    """Read boundaries and labels out of the annotator's rows."""
    episode = episodes_of(rows, batch)
    first, stop = rows.column("start_step").to_numpy(), rows.column("end_step").to_numpy()
    label = np.full(batch.steps.num_rows, -1, np.int64)
    code = rows.column("label").cast(pa.int64()).fill_null(-1).to_numpy()
    for e, a, b, c in zip(episode, first, stop, code, strict=True):
        label[batch.starts[e] + a : batch.starts[e] + b] = c
    when = (rows.column("start_ns").to_numpy() - batch.t_ns[batch.starts[episode]]) * 1e-9
    inner = first > 0
    return Cuts(tuple(when[inner & (episode == e)] for e in range(len(batch.episodes))), label)


def uniform(cuts: Cuts, batch: Batch) -> Cuts:
    """As many segments, all of one length, in the same order of labels."""
    spans = _seconds(batch)
    edges = [np.arange(1, len(b) + 1) / (len(b) + 1) * s for b, s in zip(cuts.boundaries, spans, strict=True)]
    return _laid_out(cuts, batch, edges)


def at_random(cuts: Cuts, batch: Batch, seed: int = 0) -> Cuts:
    """As many segments, cut anywhere, with labels dealt out at random: the adversarial twin."""
    rng = np.random.Generator(np.random.Philox(seed))
    edges = [np.sort(rng.random(len(b)) * s) for b, s in zip(cuts.boundaries, _seconds(batch), strict=True)]
    found = _laid_out(cuts, batch, edges)
    return replace(found, label=rng.permutation(len(PHASES))[found.label])


def gripper_only(batch: Batch, config: SegmentsConfig) -> Cuts:
    """Cut where a gripper begins or stops moving, and nowhere else."""
    source = find_source(batch.contract)
    edges: list[F64] = []
    label = np.zeros(batch.steps.num_rows, np.int64)
    for track in read_tracks(batch, source, replace(config, privileged=False)) if source is not None else ():
        hands = [limb.opening for limb in track.limbs if limb.opening is not None]
        places = sorted({p for opening in hands for move in gripper_moves(opening, config.hz) for p in move[:2] if p > 0})
        edges.append(np.array(places, np.float64) / config.hz)
    found = Cuts(tuple(edges), label)
    counts = [np.arange(len(e) + 1) for e in edges]
    return _laid_out(found, batch, edges, [c % len(PHASES) for c in counts])


def in_frames(cutter: Cutter, hz: float = 20.0) -> Cutter:
    """The twin that counts frames: it takes every recording for one at `hz`."""

    def twin(batch: Batch) -> Cuts:
        order = np.arange(batch.steps.num_rows) - np.repeat(batch.starts[:-1], np.diff(batch.starts))
        real = np.repeat(batch.t_ns[batch.starts[:-1]], np.diff(batch.starts))
        wrong = real + np.rint(order * (1e9 / hz)).astype(np.int64)
        place = batch.steps.column_names.index("t_ns")
        found = cutter(replace(batch, steps=batch.steps.set_column(place, "t_ns", pa.array(wrong, pa.int64()))))
        scale = [_length(batch, e) * hz / max(int(n) - 1, 1) for e, n in enumerate(np.diff(batch.starts))]
        return replace(found, boundaries=tuple(b * s for b, s in zip(found.boundaries, scale, strict=True)))

    return twin


def backwards(batch: Batch) -> Batch:
    """Return every episode played backwards, on the same clock."""
    order = np.concatenate([np.arange(b - 1, a - 1, -1) for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True)])
    ends = np.repeat(batch.t_ns[batch.starts[1:] - 1] + batch.t_ns[batch.starts[:-1]], np.diff(batch.starts))
    steps = batch.steps.take(pa.array(order))
    clock = pa.array(ends - batch.t_ns[order], pa.int64())
    return replace(batch, steps=steps.set_column(steps.column_names.index("t_ns"), "t_ns", clock), streams=_mirrored(batch))


def without_truth(batch: Batch) -> Batch:
    """Return the batch without the columns that tell the truth, so that nothing can read them."""
    names = [n for n in truth_columns(batch.contract) if n in batch.steps.column_names]
    return replace(batch, steps=batch.steps.drop_columns(names)) if names else batch


def _mirrored(batch: Batch) -> pa.Table | None:
    """Return the signals of episodes played backwards."""
    if batch.streams is None:
        return None
    both = dict(zip(batch.episodes, (batch.t_ns[batch.starts[1:] - 1] + batch.t_ns[batch.starts[:-1]]).tolist(), strict=True))
    names = batch.streams.column("episode_id").cast(pa.string()).to_pylist()
    t = np.array([both[n] for n in names], np.int64) - batch.streams.column("t_ns").to_numpy()
    place = batch.streams.column_names.index("t_ns")
    turned = batch.streams.set_column(place, batch.streams.field(place), pa.array(t, pa.int64()))
    return turned.take(pa.array(np.arange(turned.num_rows)[::-1]))


def _laid_out(cuts: Cuts, batch: Batch, edges: list[F64], orders: list[I64] | None = None) -> Cuts:
    """Put the labels of each episode, in their order, between other edges."""
    label = np.empty_like(cuts.label)
    for e, inner in enumerate(edges):
        a, b = int(batch.starts[e]), int(batch.starts[e + 1])
        t = (batch.t_ns[a:b] - batch.t_ns[a]) * 1e-9
        order = order_of(cuts, batch, e) if orders is None else orders[e]
        which = np.searchsorted(inner, t, side="right")
        label[a:b] = order[np.minimum(which, len(order) - 1)]
    return Cuts(tuple(edges), label)


def order_of(cuts: Cuts, batch: Batch, episode: int) -> I64:
    """Labels of an episode's segments, in order."""
    a, b = int(batch.starts[episode]), int(batch.starts[episode + 1])
    t = (batch.t_ns[a:b] - batch.t_ns[a]) * 1e-9
    first = np.searchsorted(t, np.concatenate([[0.0], cuts.boundaries[episode]]) - 1e-6)
    return cuts.label[a + np.minimum(first, b - a - 1)]


def _seconds(batch: Batch) -> list[float]:
    return [_length(batch, e) for e in range(len(batch.episodes))]


def _length(batch: Batch, episode: int) -> float:
    return float(batch.t_ns[batch.starts[episode + 1] - 1] - batch.t_ns[batch.starts[episode]]) * 1e-9
