"""Object-relative motions: which object does the hand move straight at? Only where object poses were recorded, in simulation."""

import numpy as np

from annotators.base import Batch
from annotators.motion.labels import StepLabels
from annotators.motion.read import integral, read_slots
from annotators.motion.source import FULL_SCALE, MotionSource
from annotators.motion.things import object_places
from transforms.grid import I64
from transforms.rotation import F64

STRAIGHT = 0.9  # least cosine between the motion and the way to the object
_NEAR_M = 0.03  # closer than this it is there already
_APPROACH = 0.5  # least share of the path by which it must come closer
_RESTS = 0.2  # most the object itself may move, as a share of the path


def objects_ahead(batch: Batch, source: MotionSource, labels: StepLabels, first: I64, stop: I64) -> list[str | None]:
    """Return for every run of steps `[first, stop)` the object its first moving arm goes straight at; None where there is none."""
    arms = [a for a in source.arms if a.position.representation == "absolute" and a.position.unit != FULL_SCALE]
    places = object_places(batch) if arms else {}
    if not places:
        return [None] * len(first)
    values = read_slots(batch, source)[0]
    found: list[str | None] = [None] * len(first)
    last = np.minimum(stop, np.repeat(batch.starts[1:], np.diff(batch.starts))[first] - 1)
    for at, arm in enumerate(source.arms):
        if arm not in arms:
            continue
        hand = integral(arm.position, values, batch)
        moves = (labels.reason[first] == 0) & (labels.code[7 * at : 7 * at + 3, first] != 0).any(0)
        cosine = np.stack([_straightness(hand, thing, first, last) for thing in places.values()])
        best = np.argmax(cosine, 0)
        names = list(places)
        for row in np.flatnonzero(moves & (cosine.max(0) > STRAIGHT)).tolist():
            found[row] = found[row] or names[int(best[row])]
    return found


def _straightness(hand: F64, thing: F64, first: I64, last: I64) -> F64:
    """Cosine between each run's motion and the way to the object; -1 where it is no approach to an object at rest."""
    way, path = thing[:, first] - hand[:, first], hand[:, last] - hand[:, first]
    far, length = np.linalg.norm(way, axis=0), np.linalg.norm(path, axis=0)
    closer = far - np.linalg.norm(thing[:, first] - hand[:, last], axis=0)
    moved = np.linalg.norm(thing[:, last] - thing[:, first], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (way * path).sum(0) / (far * length)
        fits = (far > _NEAR_M) & (closer > _APPROACH * length) & (moved < _RESTS * length)
    return np.where(fits & np.isfinite(cosine), cosine, -1.0)
