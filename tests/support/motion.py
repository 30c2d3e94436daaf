"""One continuous arm motion, known at every instant, sampled at any rate: the ground truth for language motions."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from pipelines.shards.draft import EpisodeDraft, build_steps
from pipelines.sources.base import Group, SourceOptions
from schemas.contract import Contract, Feature, Part
from schemas.shards import steps_schema
from transforms.rotation import exp, multiply, normalise

FINE_HZ = 1000
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Trajectory:
    """Fine samples at 1 kHz: positions [3, N] m, quaternions [4, N] wxyz, gripper [N] open = 1."""

    p: np.ndarray
    q: np.ndarray
    grip: np.ndarray

    @property
    def seconds(self) -> float:
        return (self.p.shape[1] - 1) / FINE_HZ

    def at(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fine = np.arange(self.p.shape[1]) / FINE_HZ
        p = np.stack([np.interp(t, fine, row) for row in self.p])
        q = normalise(np.stack([np.interp(t, fine, row) for row in self.q]))
        return p, q, np.interp(t, fine, self.grip)


@lru_cache
def make_trajectory(seed: int, seconds: float = 10.0) -> Trajectory:
    """Moves, turns, pauses and grips of 0.5 to 1.5 s at 8 to 30 cm/s and 0.4 to 1.2 rad/s, blended over 0.15 s."""
    rng = np.random.default_rng(seed)
    count = round(seconds * FINE_HZ) + 1
    v, w, g, at = np.zeros((3, count)), np.zeros((3, count)), np.ones(count), 0
    opened = 1.0
    while at < count:
        stop = at + round(rng.uniform(0.5, 1.5) * FINE_HZ)
        kind = rng.choice(["move", "turn", "both", "grip", "rest"], p=[0.45, 0.15, 0.15, 0.15, 0.1])
        if kind in ("move", "both"):
            v[:, at:stop] = _direction(rng)[:, None] * rng.uniform(0.08, 0.3)
        if kind in ("turn", "both"):
            w[:, at:stop] = _direction(rng)[:, None] * rng.uniform(0.4, 1.2)
        if kind == "grip":
            opened = 1.0 - opened
        g[at:] = opened
        at = stop
    blend = np.ones(150) / 150
    v, w = (np.stack([np.convolve(row, blend, "same") for row in x]) for x in (v, w))
    grip = np.convolve(np.pad(g, 200, mode="edge"), np.ones(400) / 400, "same")[200:-200]
    q = _integrate(exp(w / FINE_HZ).T.tolist(), normalise(rng.normal(size=(4, 1)))[:, 0].tolist())
    return Trajectory(np.cumsum(v, 1) / FINE_HZ + np.array([[0.4], [0.0], [0.3]]), normalise(q), grip)


def arm_contract(hz: float, name: str = "arm", **position: str) -> Contract:
    parts = (
        Part("ee_position", 0, 3, representation="absolute", unit="m", **position),
        Part("ee_rotation", 3, 7, representation="absolute", rotation="quat_wxyz"),
        Part("gripper", 7, 8, gripper_open=1.0, gripper_closed=0.0),
    )
    state = Feature("observation.state", "float32", (8,), role="state", parts=parts)
    action = Feature("action", "float32", (7,), role="action", representation="delta")
    return Contract(name, "sim", "toy_arm", hz, features=(state, action))


def sample(
    trajectories: list[Trajectory], hz: float, *, noise_m: float = 0.0, noise_deg: float = 0.0, seed: int = 0, **position: str
) -> Batch:
    """Record trajectories at `hz`, one episode each, with optional Gaussian noise."""
    rng = np.random.default_rng(seed)
    times, states, actions, sizes = [], [], [], []
    for trajectory in trajectories:
        t = np.arange(int(trajectory.seconds * hz + 1e-6) + 1) / hz
        p, q, grip = trajectory.at(t)
        p = p + rng.normal(size=p.shape) * noise_m
        q = multiply(exp(rng.normal(size=p.shape) * np.radians(noise_deg)), q)
        state = np.concatenate([p, q, grip[None]])
        ahead = trajectory.at(np.minimum(t + 1 / hz, trajectory.seconds))
        action = np.concatenate([ahead[0] - p, np.zeros((3, len(t))), ahead[2][None]])
        times.append(np.rint(t * SECOND).astype(np.int64))
        states.append(state)
        actions.append(action)
        sizes.append(len(t))
    columns = {"observation.state": np.concatenate(states, 1), "action": np.concatenate(actions, 1)}
    return batch_of(arm_contract(hz, **position), np.concatenate(times), sizes, columns)


def batch_of(contract: Contract, t_ns: np.ndarray, sizes: list[int], columns: dict[str, np.ndarray]) -> Batch:
    """Build a batch from component-first columns float[D, T] of episodes laid end to end."""
    count = len(t_ns)
    step = np.concatenate([np.arange(n) for n in sizes])
    names = np.repeat([f"ep-{i:04d}" for i in range(len(sizes))], sizes)
    values = {
        "episode_id": pa.array(names).dictionary_encode(),
        "step": pa.array(step, pa.int32()),
        "t_ns": pa.array(t_ns, pa.int64()),
        "is_first": pa.array(step == 0),
        "is_last": pa.array(np.append(step[1:] == 0, True)),
        "is_terminal": pa.array(np.zeros(count, bool)),
    }
    for name, data in columns.items():
        flat = pa.array(np.ascontiguousarray(data.T, np.float32).reshape(-1))
        values[name] = pa.FixedSizeListArray.from_arrays(flat, len(data))
    schema = steps_schema(contract)
    return Batch(contract, pa.table([values.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema))


def _integrate(turns: list[list[float]], first: list[float]) -> np.ndarray:
    """Turn `first` by one small rotation after the other; plain floats are ten times faster than numpy here."""
    w, x, y, z = first
    path = [first]
    for a, b, c, d in turns[:-1]:
        w, x, y, z = (
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        )
        path.append([w, x, y, z])
    return np.array(path).T


def _direction(rng: np.random.Generator) -> np.ndarray:
    d = rng.normal(size=3) * (rng.random(3) < 0.6)
    norm = np.linalg.norm(d)
    return d / norm if norm > 0 else np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class ArmSource:
    """A source of motion without cameras: `seeds` trajectories at `hz`, two episodes to a shard."""

    seeds: tuple[int, ...] = (0, 1, 2)
    hz: float = 20.0
    seconds: float = 4.0
    uri: str = "arm://"
    options: SourceOptions = field(default_factory=lambda: SourceOptions("arm"))
    per_group: int = 2
    name: ClassVar[str] = "arm"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        return uri.startswith("arm://")

    def contract(self) -> Contract:
        return arm_contract(self.hz, self.options.dataset)

    def groups(self) -> list[Group]:
        batches = [self.seeds[i : i + self.per_group] for i in range(0, len(self.seeds), self.per_group)]
        return [Group(f"seeds {b}", len(b), 100, [b, self.hz, self.seconds], b) for b in batches]

    def read(self, group: Group) -> Iterator[EpisodeDraft]:
        for seed in group.payload:
            steps = sample([make_trajectory(seed, self.seconds)], self.hz).steps
            columns = {n: np.stack(steps.column(n).to_pylist()) for n in ("observation.state", "action")}
            table = build_steps(self.contract(), steps.column("t_ns").to_numpy(), columns, language="move")
            yield EpisodeDraft(str(seed), table, uri=self.uri)
