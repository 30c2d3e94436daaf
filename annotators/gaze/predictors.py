"""What predicts gaze: a trained network, a function of the user's, or the priors alone. All turn windows of pictures into maps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from annotators.gaze.labels import Labelled
from annotators.gaze.model import GazeNetSpec, load, predict, read_spec
from annotators.gaze.priors import Centre, added, parts_of
from annotators.gaze.recorded import RECORDED
from annotators.weights import hash_weights
from schemas.errors import AnnotatorError
from schemas.registry import load_function
from transforms.gaze.maps import F32


@dataclass(frozen=True, slots=True)
class Sees:
    """What a predictor is shown: `frames` pictures, `hz` of them per second, stretched to a square of `side` pixels."""

    frames: int
    hz: float
    side: int


class Predictor(Protocol):
    """Anything that predicts gaze."""

    @property
    def sees(self) -> Sees:
        """What it is shown."""
        ...

    @property
    def labels(self) -> str:
        """Whose gaze it learnt: `recorded` or `pseudo_intent`."""
        ...

    def maps(self, given: Labelled, at_once: int, device: str) -> F32:
        """Return maps float32[N, H, W] for the windows of `given`, each summing to 1; where somebody looked is not read."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """Trained weights."""

    path: str
    spec: GazeNetSpec

    @property
    def sees(self) -> Sees:
        """What it was trained on."""
        return Sees(self.spec.frames, self.spec.hz, self.spec.side)

    @property
    def labels(self) -> str:
        """Whose gaze it was trained on."""
        return self.spec.labels

    def maps(self, given: Labelled, at_once: int, device: str) -> F32:
        """Return the network's maps."""
        return predict(_model(self.path, hash_weights(self.path)[0]), given.pictures, given.window, at_once, device)


@dataclass(frozen=True, slots=True)
class Function:
    """A function `module:function` of the user's, such as a checkpoint of GLC's: uint8[frames, side, side, 3] to a map [H, W]."""

    target: str
    sees: Sees
    labels: str = RECORDED

    def maps(self, given: Labelled, at_once: int, device: str) -> F32:  # noqa: ARG002  # it takes one window, where it likes
        """Return what the function says, one window at a time.

        Raises:
            AnnotatorError: it returns no map, or one with negative or infinite values.
        """
        call: Callable[[Any], Any] = load_function(self.target, "function")
        made = [np.asarray(call(given.pictures[rows]), np.float64) for rows in given.window]
        for one in made:
            if one.ndim != 2 or one.shape != made[0].shape or not np.isfinite(one).all() or one.min() < 0 or not one.sum() > 0:
                raise AnnotatorError(
                    f"function={self.target} returned {one.dtype}{list(one.shape)}; it must return maps [H, W] of one size, none negative, "
                    "with a positive sum"
                )
        return np.stack([one / one.sum() for one in made]).astype(np.float32) if made else np.empty((0, 1, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Priors:
    """No training: the middle of the picture, the hand where somebody tells it, and what moves by itself."""

    sees: Sees
    weights: tuple[float, ...]
    centre: Centre
    grid: int
    labels: str = RECORDED

    def maps(self, given: Labelled, at_once: int, device: str) -> F32:  # noqa: ARG002  # there is no model
        """Return the product of the priors' maps, each to the power of its weight."""
        size = (self.grid, self.grid)
        if not len(given.window):
            return np.empty((0, *size), np.float32)
        return added(parts_of(given, size, self.centre), np.array(self.weights, np.float64))


def open_network(path: str) -> Network:
    """Open weights.

    Raises:
        UsageError: they cannot be read.
    """
    return Network(path, read_spec(path))


def function_hash(target: str) -> tuple[str, ...]:
    """Return what identifies a user's function beside its name: the hash of its module's file, and of files it names as `weights`."""
    found = load_function(target, "function")
    spec = find_spec(target.partition(":")[0])
    code = hash_weights(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else ()
    return (*code, *hash_weights(*getattr(found, "weights", ())))


@lru_cache(maxsize=2)
def _model(path: str, _content: str) -> Any:
    return load(path)
