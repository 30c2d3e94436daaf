"""Things whose pose a simulator recorded, along one episode: which of them went or turned between two steps."""

from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.motion.things import object_columns, object_places, object_streams
from transforms.grid import I64
from transforms.rotation import F64, conjugate, log, multiply

TOGETHER_M = 0.005  # things that keep their distance to this are parts of one


@dataclass(frozen=True, slots=True)
class Poses:
    """Poses of one episode.

    Attributes:
        place: float64[3, T] metres by name; NaN where unknown.
        turn: float64[4, T] quaternions wxyz by name, of those that have one.
    """

    place: dict[str, F64]
    turn: dict[str, F64]

    def moved(self, a: int, b: int, least_m: float, least_rad: float) -> tuple[str, ...]:
        """Name what went at least `least_m` or turned at least `least_rad` from step `a` to step `b`."""
        return tuple(n for n in self.place if self.gone(n, a, b) >= least_m or self.turned(n, a, b) >= least_rad)

    def groups(self, a: int, b: int, least_m: float, least_rad: float) -> tuple[tuple[str, ...], ...]:
        """Name what moved, parts of one thing together: a drawer and its handle keep their distance."""
        found: list[list[str]] = []
        for name in self.moved(a, b, least_m, least_rad):
            mates = next((g for g in found if self._together(g[0], name, a, b)), None)
            if mates is None:
                found.append([name])
            else:
                mates.append(name)
        return tuple(tuple(g) for g in found)

    def still(self, a: int, b: int, least_m: float, least_rad: float) -> bool:
        """Tell whether nothing moved from one step to another."""
        return not self.moved(a, b, least_m, least_rad)

    def gone(self, name: str, a: int, b: int) -> float:
        """Return how far a thing went, metres; 0 where that is not known."""
        far = float(np.linalg.norm(self.place[name][:, b] - self.place[name][:, a]))
        return far if np.isfinite(far) else 0.0

    def turned(self, name: str, a: int, b: int) -> float:
        """Return how far a thing turned, radians; 0 where that is not known."""
        if name not in self.turn:
            return 0.0
        q = self.turn[name]
        angle = float(np.linalg.norm(log(multiply(conjugate(q[:, a : a + 1]), q[:, b : b + 1]))))
        return angle if np.isfinite(angle) else 0.0

    def _together(self, one: str, other: str, a: int, b: int) -> bool:
        apart = [float(np.linalg.norm(self.place[one][:, s] - self.place[other][:, s])) for s in (a, b)]
        return abs(apart[1] - apart[0]) < TOGETHER_M


def read_poses(batch: Batch) -> list[Poses]:
    """Return the poses of every episode; empty where nobody recorded any."""
    places, turns = object_places(batch), _turns(batch)
    found: list[Poses] = []
    for a, b in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
        here = {n: p[:, a:b] for n, p in places.items() if np.isfinite(p[:, a:b]).all()}
        found.append(Poses(here, {n: q[:, a:b] for n, q in turns.items() if n in here}))
    return found


def _turns(batch: Batch) -> dict[str, F64]:
    """Return the turn of every thing whose signal has one, by the sample nearest to each step: float64[4, T]."""
    if batch.streams is None:
        return {}
    return {
        thing: np.concatenate([_nearest(batch, at, stream) for at in range(len(batch.episodes))], 1)
        for thing, stream in object_streams(batch.contract).items()
        if thing not in object_columns(batch.contract)
    }


def _nearest(batch: Batch, episode: int, stream: str) -> F64:
    a, b = batch.starts[episode], batch.starts[episode + 1]
    rows = batch.stream(batch.episodes[episode], stream)
    values = rows.column("values").to_pylist()
    if not values or len(values[0]) < 7:
        return np.tile(np.array([[1.0], [0.0], [0.0], [0.0]]), (1, b - a))
    turn, when = np.array([v[3:7] for v in values], np.float64).T, rows.column("t_ns").to_numpy()
    return turn[:, _places(when, batch.t_ns[a:b])]


def _places(when: I64, at: I64) -> I64:
    """Return the nearest of rising instants to each of `at`."""
    after = np.clip(np.searchsorted(when, at), 1, max(len(when) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(when) - 1)
    return np.where(np.abs(when[after] - at) < np.abs(at - when[before]), after, before)
