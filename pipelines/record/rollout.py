"""One simulated episode in memory, and what a simulator must offer to make one. Nothing here touches files or renders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.record.spec import RecordSpec
from schemas.contract import Contract

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
SEGMENTATION = "segmentation."  # prefix of the camera that carries a camera's masks
DEPTH = "depth."  # likewise, distances in millimetres


@dataclass(frozen=True, slots=True)
class Masks:
    """Segmentation or depth of one camera: `steps` int32[M] says at which steps `images` uint8 or uint16 [M, H, W] were taken."""

    steps: npt.NDArray[np.int32]
    images: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """One stream: `values` float64[n, k] at `t_ns` int64[n] on the episode clock."""

    name: str
    t_ns: I64
    values: F64


@dataclass(frozen=True, slots=True)
class Rollout:
    """One episode of T steps.

    Attributes:
        task: name of the task.
        seed: the scene; with the task it determines the whole episode.
        instruction: the task in words.
        success: whether the simulator called the task solved at any step; None where it does not judge.
        hz: recorded steps per second.
        columns: per feature of the contract an array [T, size].
        reward: float32[T], of the interval that starts at each step.
        frames: per camera uint8[T, H, W, 3], RGB, upright; frame i is what step i sees.
        masks: per segmentation or depth camera.
        streams: irregular and privileged signals.
        attributes: JSON-ready facts about this episode.
        changed: the factor that a counterfactual changed; empty for what was really played.
    """

    task: str
    seed: int
    instruction: str
    success: bool | None
    hz: int
    columns: dict[str, F32]
    reward: F32
    frames: dict[str, U8]
    masks: dict[str, Masks] = field(default_factory=dict[str, Masks])
    streams: tuple[Samples, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    changed: str = ""

    @property
    def t_ns(self) -> I64:
        """Start of every step on the episode clock, int64[T] nanoseconds."""
        return step_times(len(self.reward), self.hz)


def step_times(count: int, hz: int) -> I64:
    """Return the clock of `count` steps at `hz`, int64 nanoseconds, each rounded once."""
    return (np.arange(count, dtype=np.int64) * 1_000_000_000 + hz // 2) // hz


def as_f32(values: Any) -> F32:
    """Return `values` as a float32 array."""
    return np.asarray(values, np.float32)


class Simulator(Protocol):
    """One simulator with its experts. Built from a spec; the same task and seed give the same episode, whatever ran before.

    `known_tasks` says what each task asks for, in words.
    """

    name: ClassVar[str]
    known_tasks: ClassVar[Mapping[str, str]]
    default_tasks: ClassVar[tuple[str, ...]]

    def __init__(self, spec: RecordSpec) -> None: ...

    def contract(self, tasks: tuple[str, ...]) -> Contract:
        """Return what episodes of `tasks` promise; `dataset` is empty, the reader names it.

        Raises:
            UnknownNameError: there is no such task.
        """
        ...

    def run(self, task: str, seed: int) -> Rollout:
        """Play and render one episode; a failed attempt is an episode too, with `success` false."""
        ...

    def close(self) -> None:
        """Free windows and contexts."""
        ...


class Varies(Simulator, Protocol):
    """A simulator whose scenes vary by factor; built from a spec whose `factors` it applies in `run`.

    `factors` names those it knows, `values` the named values of those that have any.
    """

    factors: ClassVar[tuple[str, ...]]
    values: ClassVar[Mapping[str, tuple[str, ...]]]

    def rerender(self, rollout: Rollout, factor: str) -> Rollout:
        """Return the episode that `run` returned last with its states rendered again, exactly one factor changed.

        Only of a simulator whose spec asks for counterfactuals: others keep no states.
        """
        ...
