"""Step labels as rows: runs of equal codes, their words, their negatives, and which object they lead to."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from annotators.base import Annotator, Batch
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.labels import REASONS, StepLabels
from annotators.motion.source import MotionSource
from annotators.motion.toward import objects_ahead
from annotators.spans import constant, lists, span_table
from schemas.errors import UsageError
from transforms.ecot import ecot_text
from transforms.grid import BOOL, I64, runs
from transforms.motion import I8
from transforms.motion_text import STILL, Axis, phrase
from transforms.rotation import F64

U64 = npt.NDArray[np.uint64]
SLIGHTLY, QUICKLY = 0.1, 0.3  # metres per second


def label_rows(
    annotator: Annotator, config: LanguageMotionConfig, batch: Batch, labels: StepLabels, source: MotionSource
) -> pa.Table:
    """Run-length encode equal codes; one row per run."""
    first, length = runs(labels.changes(batch))
    reason = labels.reason[first]
    valid, told = reason == 0, labels.code[:, first].T
    rate = np.add.reduceat(labels.rate, first, axis=1).T / length[:, None]
    margin = np.add.reduceat(labels.margin, first) / length
    wrong, wrong_rate = _negatives(batch, labels, first, told, rate)
    known = valid & bool(np.isfinite(labels.margin[labels.reason == 0]).all())
    nobody: list[str | None] = [None] * len(first)
    ahead = nobody if config.objects == "off" else objects_ahead(batch, source, labels, first, first + length)
    named = ahead if config.objects == "text" else nobody
    own = {
        "text": _texts(labels, told, rate, valid, config, named),
        "code": _lists(told, valid, pa.int8()),
        "axes": constant(",".join(a.name for a in labels.axes), len(first)),
        "rate": _lists(rate.astype(np.float32), known, pa.float32()),
        "frame_ref": constant(labels.frame_ref, len(first)),
        "source": constant(source.kind, len(first)),
        "margin": pa.array(margin.astype(np.float32), mask=~known),
        "toward": pa.array(ahead, pa.string()).dictionary_encode(),
        "negative": _texts(labels, wrong, wrong_rate, valid, config, nobody),
        "negative_code": _lists(wrong, valid, pa.int8()),
    }
    sure = pa.array(np.minimum(margin, 1.0).astype(np.float32), mask=~known)
    return span_table(annotator, batch, first, first + length, [REASONS[r] for r in reason], own, confidence=sure)


def _texts(
    labels: StepLabels, code: I8, rate: F64, valid: BOOL, config: LanguageMotionConfig, toward: list[str | None]
) -> pa.DictionaryArray:
    """Write codes int8[K, A] with rates float64[K, A] as words; each distinct one once."""
    axes = _renamed(labels.axes, config.words)
    rank = _ranks(np.where(code != 0, np.abs(rate) / labels.on, -1.0))
    level = np.zeros_like(code)
    if config.adverbs:
        moving = np.array([a.kind == "translation" for a in axes]) & (code != 0)
        level[moving & (np.abs(rate) > QUICKLY)] = 1
        level[moving & (np.abs(rate) < SLIGHTLY)] = -1
    things = sorted({t for t in toward if t is not None})
    which_thing = np.array([-1 if t is None else things.index(t) for t in toward], np.int8)
    keys, which = _distinct(
        np.stack([code, np.where(code != 0, rank, np.int8(-1)), level, np.repeat(which_thing[:, None], code.shape[1], 1)], 1)
    )
    texts = [_words(axes, key, config, things) for key in keys]
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32), mask=~valid), pa.array(texts, pa.string()))


def _words(axes: tuple[Axis, ...], key: I8, config: LanguageMotionConfig, things: list[str]) -> str:
    if config.rule == "ecot_verbatim":
        return ecot_text(key[0])
    signs, ranks, levels, thing = key.tolist()
    order = sorted((i for i, r in enumerate(ranks) if r >= 0), key=ranks.__getitem__)
    if not thing or thing[0] < 0:
        return phrase(axes, tuple(signs), tuple(order), tuple(levels), config.max_parts)
    first = next(axes[i].who for i in order if axes[i].kind == "translation")
    rest = tuple(i for i in order if axes[i].kind != "translation")
    lead = f"move {first or 'arm'} toward the {things[thing[0]]}"
    more = phrase(axes, tuple(signs), rest, tuple(levels), config.max_parts - 1) if config.max_parts > 1 else STILL
    return lead if more == STILL else f"{lead}, {more}"


def _negatives(batch: Batch, labels: StepLabels, first: I64, code: I8, rate: F64) -> tuple[I8, F64]:
    """Return for every row a code that is not its own: one of its axes reversed, or, where all hold still, one that moves.

    Which axis is a hash of the episode and the start, so it depends on nothing else in the batch.
    """
    draws = _draws(batch, first)
    wrong, speed = code.copy(), rate.copy()
    movable = np.array([a.kind != "base" for a in labels.axes])
    moving = (code != 0).sum(1)
    pool = np.where((moving > 0)[:, None], code != 0, movable)
    pick = draws % np.maximum(pool.sum(1), 1).astype(np.uint64)
    axis = np.argmax(np.cumsum(pool, axis=1) == (pick + np.uint64(1)).astype(np.int64)[:, None], axis=1)
    row = np.arange(len(code))
    way = np.where(draws >> np.uint64(63), 1, -1)
    wrong[row, axis] = np.where(moving > 0, -code[row, axis], way)
    speed[row, axis] = np.where(moving > 0, -rate[row, axis], way * labels.on[axis])
    return wrong, speed


def _draws(batch: Batch, first: I64) -> U64:
    """Return 64 random bits per row, uint64[K]: BLAKE3 of the episode, mixed with the start by SplitMix64 (Steele et al. 2014)."""
    seeds = np.array([int.from_bytes(blake3(e.encode()).digest(8), "little") for e in batch.episodes], np.uint64)
    episode = np.searchsorted(batch.starts, first, side="right") - 1
    z = seeds[episode] + batch.t_ns[first].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _ranks(strength: F64) -> I8:
    """Place of each axis by falling strength, int8[K, A]; the earlier axis first where equal."""
    mine, other = strength[:, :, None], strength[:, None, :]
    earlier = np.tril(np.ones((strength.shape[1],) * 2, bool), -1)
    return ((other > mine) | ((other == mine) & earlier)).sum(2).astype(np.int8)


def _distinct(keys: I8) -> tuple[I8, I64]:
    """Return the distinct rows of int8[K, ...] and which of them each row is."""
    rows = np.ascontiguousarray(keys)
    width = int(np.prod(rows.shape[1:]))
    array: Any = pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)]).dictionary_encode()
    first = np.frombuffer(b"".join(array.dictionary.to_pylist()), np.int8).reshape(-1, *rows.shape[1:])
    return first, array.indices.to_numpy().astype(np.int64)


def _renamed(axes: tuple[Axis, ...], words: tuple[tuple[str, str, str], ...]) -> tuple[Axis, ...]:
    new = {name: (negative, positive) for name, negative, positive in words}
    if unknown := sorted(set(new) - {a.name for a in axes}):
        raise UsageError(f"words are given for the axes {unknown}; this dataset has {[a.name for a in axes]}")
    return tuple(Axis(a.name, a.kind, a.who, new.get(a.name, a.words)) for a in axes)


def _lists(rows: Any, valid: BOOL, kind: pa.DataType) -> pa.ListArray:
    """Return a list column of `rows` [n, A]; null where not valid."""
    return lists(rows[valid].reshape(-1), np.where(valid, rows.shape[1], 0), valid, kind)
