"""What is known about one episode: acts (segments), where things and the hand are, how far the gripper is open, the task in words."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.motion.read import read_slots
from annotators.motion.source import find_source
from annotators.motion.things import object_places
from annotators.segments.config import SegmentsConfig
from annotators.segments.segments import Segments
from transforms.language.sequences import Act
from transforms.rotation import F64

ACTS = Segments(SegmentsConfig(motions=False))


@dataclass(frozen=True, slots=True)
class Part:
    """One act: steps `[first, stop)`, what is done, with what (empty where unknown), in words."""

    first: int
    stop: int
    verb: str
    noun: str
    text: str

    @property
    def act(self) -> Act:
        """Verb and noun."""
        return self.verb, self.noun


@dataclass(frozen=True, slots=True)
class Scene:
    """One episode.

    Attributes:
        episode: its id.
        seconds: float64[T] since its first step.
        task: what it says it is about; None where it says nothing.
        parts: its acts, in order.
        seen: the acts that can be told from its observed part alone; see `TextConfig.observed`.
        things: where each object is, float64[3, T] metres.
        hand: float64[3, T] metres of the first arm, or None.
        opening: float64[T] of its gripper, 1 open, or None.
        camera: the first camera, or None.
        reason: why nothing can be said about it, or None.
    """

    episode: str
    seconds: F64
    task: str | None
    parts: tuple[Part, ...]
    seen: tuple[Part, ...]
    things: Mapping[str, F64]
    hand: F64 | None
    opening: F64 | None
    camera: str | None
    reason: str | None

    @property
    def size(self) -> int:
        """Number of steps."""
        return len(self.seconds)


def scenes(batch: Batch, observed: float | None) -> list[Scene]:
    """Return what is known about every episode; `observed` asks for the acts of its first part too, read without the rest."""
    parts, reasons = parts_of(batch)
    seen = parts_of(_first_part(batch, observed))[0] if observed is not None else [()] * len(parts)
    hand, opening = _hand(batch)
    things, tasks = object_places(batch), _tasks(batch)
    camera = batch.contract.cameras[0].name if batch.contract.cameras else None
    found = list[Scene]()
    for at, episode in enumerate(batch.episodes):
        rows = slice(int(batch.starts[at]), int(batch.starts[at + 1]))
        t = batch.t_ns[rows]
        mine = {n: p[:, rows] for n, p in things.items() if np.isfinite(p[:, rows]).all()}
        where = hand[:, rows] if hand is not None and np.isfinite(hand[:, rows]).all() else None
        grip = opening[rows] if opening is not None and np.isfinite(opening[rows]).all() else None
        found.append(Scene(episode, (t - t[0]) * 1e-9, tasks[at], parts[at], seen[at], mine, where, grip, camera, reasons[at]))
    return found


def parts_of(batch: Batch) -> tuple[list[tuple[Part, ...]], list[str | None]]:
    """Return the acts of every episode, and why there are none where there are none."""
    rows = ACTS.run(batch)
    names = ("episode_id", "start_step", "end_step", "phase", "object", "text", "reason")
    parts: dict[str, list[Part]] = {e: [] for e in batch.episodes}
    why: dict[str, str | None] = dict.fromkeys(batch.episodes)
    for row in rows.select(names).to_pylist():
        if row["reason"] is None:
            made = Part(row["start_step"], row["end_step"], row["phase"], row["object"] or "", row["text"])
            parts[row["episode_id"]].append(made)
        else:
            why[row["episode_id"]] = row["reason"]
    acts = [tuple(parts[e]) for e in batch.episodes]
    return acts, [None if have else why[e] or "no_acts" for have, e in zip(acts, batch.episodes, strict=True)]


def _first_part(batch: Batch, share: float) -> Batch:
    """Return the steps of the first part of every episode, with nothing of what came after."""
    keep = list[np.ndarray]()
    for a, b in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
        t = batch.t_ns[a:b]
        keep.append(np.arange(a, a + max(1, int(np.searchsorted(t, t[0] + share * (t[-1] - t[0]), side="right")))))
    rows = np.concatenate(keep) if keep else np.empty(0, np.int64)
    return Batch(batch.contract, batch.steps.take(rows), {}, batch.streams, batch.groups)


def _hand(batch: Batch) -> tuple[F64 | None, F64 | None]:
    source = find_source(batch.contract)
    if source is None or not source.arms or source.arms[0].position.representation != "absolute":
        return None, None
    arm = source.arms[0]
    values, finite, _ = read_slots(batch, source)
    place = np.where(finite, values[arm.position], np.nan)
    return place, None if arm.gripper is None else np.where(finite, values[arm.gripper].mean(0), np.nan)


def _tasks(batch: Batch) -> list[str | None]:
    if "language" not in batch.steps.column_names:
        return [None] * len(batch.episodes)
    return [t or None for t in batch.steps.column("language").take(batch.starts[:-1]).to_pylist()]
