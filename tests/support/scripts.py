"""Scripted manipulation with known phases: what segments are judged by. Pick, carry, place and let go, with pushes, turns and rests."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.segments.config import PHASES
from schemas.contract import Feature
from tests.support.motion import arm_contract, batch_of
from transforms.rotation import exp

FINE_HZ = 1000
SECOND = 1_000_000_000
CUP = "sim.object_pose.red_cup"


@dataclass(frozen=True)
class Script:
    """One episode at 1 kHz: hand [3, N], turn [3, N] rad, opening [N], object [3, N], phase [N] as an index into `PHASES`."""

    hand: np.ndarray
    turn: np.ndarray
    opening: np.ndarray
    cup: np.ndarray
    phase: np.ndarray


@lru_cache
def make_script(seed: int) -> Script:
    """Draw one: speeds, distances and lengths vary, and so does whether there is a rest, a turn, or a push instead of a pick."""
    rng = np.random.default_rng(seed)
    play = _Play(np.array([0.4, 0, 0.35]) + rng.uniform(-0.05, 0.05, 3), rng.uniform(-0.1, 0.1, 3) * [1, 1, 0] + [0.5, 0.1, 0.03])
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.25:
            play.rest(rng.uniform(0.6, 1.2))
        if rng.random() < 0.25:
            play.go("reach", play.cup - [0.08, 0, 0], rng.uniform(1.0, 1.8))
            play.go("push", play.cup + np.array([rng.uniform(0.05, 0.12), 0, 0]), rng.uniform(0.9, 1.5), carries=True)
        else:
            play.go("reach", play.cup, rng.uniform(1.0, 2.0))
            play.grip("grasp", 0.3, rng.uniform(0.4, 0.6))
            above = play.hand + np.array([0, 0, rng.uniform(0.12, 0.2)])
            goal = above + rng.uniform(-0.25, 0.25, 3) * [1, 1, 0]
            play.go("transport", goal, rng.uniform(1.2, 2.0), carries=True)
            if rng.random() < 0.3:
                play.rotate(rng.uniform(0.7, 1.3), rng.uniform(0.8, 1.2))
            play.go("place", goal * [1, 1, 0] + [0, 0, 0.03], rng.uniform(0.9, 1.4), carries=True)
            play.grip("release", 1.0, rng.uniform(0.4, 0.6))
        play.go("retract", play.hand + np.array([-0.05, 0, rng.uniform(0.15, 0.25)]), rng.uniform(0.8, 1.2))
    return play.script()


def sample_scripts(seeds: list[int], hz: float, noise_m: float = 0.0005, *, things: bool = True, truth: bool = True) -> Batch:
    """Record scripts at `hz`, one episode each, with the object's pose and the true phase as privileged columns."""
    times, states, cups, phases, sizes = [], [], [], [], []
    for seed in seeds:
        script, rng = make_script(seed), np.random.default_rng(seed)
        count = int((script.hand.shape[1] - 1) / FINE_HZ * hz) + 1
        at = np.minimum(np.rint(np.arange(count) / hz * FINE_HZ).astype(int), script.hand.shape[1] - 1)
        p = script.hand[:, at] + rng.normal(size=(3, count)) * noise_m
        states.append(np.concatenate([p, exp(script.turn[:, at]), script.opening[None, at]]))
        cups.append(script.cup[:, at])
        phases.append(script.phase[None, at].astype(np.float64))
        times.append(np.rint(np.arange(count) * SECOND / hz).astype(np.int64))
        sizes.append(count)
    columns = {"observation.state": np.concatenate(states, 1)}
    more: list[Feature] = []
    if things:
        more.append(Feature(CUP, "float32", (3,), role="privileged", unit="m", privileged=True))
        columns[CUP] = np.concatenate(cups, 1)
    if truth:
        more.append(Feature("sim.phase", "float32", (1,), names=PHASES, role="privileged", privileged=True))
    contract = replace(arm_contract(hz), features=(arm_contract(hz).features[0], *more))
    batch = batch_of(contract, np.concatenate(times), sizes, columns)
    return with_column(batch, "sim.phase", np.concatenate(phases, 1)[0]) if truth else batch


def with_column(batch: Batch, name: str, values: np.ndarray) -> Batch:
    """Replace one scalar step column."""
    place = batch.steps.column_names.index(name)
    return replace(batch, steps=batch.steps.set_column(place, batch.steps.field(place), pa.array(values, pa.float32())))


class _Play:
    """Writes a script, one phase after the other."""

    def __init__(self, hand: np.ndarray, cup: np.ndarray) -> None:
        self.hand, self.cup, self.angle, self.open = np.array(hand), np.array(cup), 0.0, 1.0
        self.rows: list[np.ndarray] = []

    def go(self, phase: str, goal: np.ndarray, seconds: float, *, carries: bool = False) -> None:
        x = _smoothstep(seconds)
        path = self.hand[:, None] + (np.array(goal) - self.hand)[:, None] * x
        cup = self.cup[:, None] + (path - self.hand[:, None]) * carries
        self._add(phase, hand=path, cup=cup)

    def grip(self, phase: str, opening: float, seconds: float) -> None:
        self._add(phase, opening=self.open + (opening - self.open) * _smoothstep(seconds))

    def rotate(self, angle: float, seconds: float) -> None:
        self._add("rotate", angle=self.angle + angle * _smoothstep(seconds))

    def rest(self, seconds: float) -> None:
        self._add("idle", angle=np.full(round(seconds * FINE_HZ), self.angle))

    def script(self) -> Script:
        rows = np.concatenate(self.rows, 1)
        turn = np.stack([0 * rows[3], 0 * rows[3], rows[3]])
        return Script(rows[:3], turn, rows[4], rows[5:8], rows[8].astype(np.int64))

    def _add(self, phase: str, **moved: np.ndarray) -> None:
        count = next(iter(moved.values())).shape[-1]
        hand = moved.get("hand", np.repeat(self.hand[:, None], count, 1))
        cup = moved.get("cup", np.repeat(self.cup[:, None], count, 1))
        angle, opening = moved.get("angle", np.full(count, self.angle)), moved.get("opening", np.full(count, self.open))
        label = np.full((1, count), PHASES.index(phase))
        self.rows.append(np.concatenate([hand, angle[None], opening[None], cup, label]))
        self.hand, self.cup, self.angle, self.open = hand[:, -1], cup[:, -1], float(angle[-1]), float(opening[-1])


def _smoothstep(seconds: float) -> np.ndarray:
    """Minimum-jerk progress from 0 to 1 (Flash and Hogan 1985)."""
    x = np.arange(1, round(seconds * FINE_HZ) + 1) / round(seconds * FINE_HZ)
    return 10 * x**3 - 15 * x**4 + 6 * x**5
