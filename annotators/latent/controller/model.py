"""A small network between an embodiment's own actions and latents: it reads the actions of an interval and the state at its beginning.

Attention among actions and state, then one query that looks at all of them (LAWM, arXiv 2601.05230); back from a latent and the state to the
same actions. Everything is standardised inside, in numbers the checkpoint carries.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.weights import load_weights, read_told, save_weights
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.noise import raw

F32 = npt.NDArray[np.float32]
FORMAT = "cotrain-latent-controller"
LEAST = 32  # intervals


@dataclass(frozen=True, slots=True)
class ControllerSpec:
    """How a controller is built and trained.

    Attributes:
        samples: actions an interval is summed up in, evenly spread.
        width: of tokens.
        heads: of attention.
        layers: of attention among actions and state.
        steps: of AdamW.
        batch: intervals per step.
        rate: highest learning rate; it falls along a cosine.
        seed: of everything random.
    """

    samples: int = 4
    width: int = 64
    heads: int = 4
    layers: int = 2
    steps: int = 1000
    batch: int = 256
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.samples, self.width, self.heads, self.layers, self.steps, self.batch) < 1 or self.width % self.heads:
            raise UsageError(f"width={self.width} must be a multiple of heads={self.heads}, and every number at least 1")
        if not self.rate > 0:
            raise UsageError(f"rate={self.rate} must be positive")


@dataclass(frozen=True)
class Controller:
    """A trained controller.

    Attributes:
        spec: how it was made.
        sizes: numbers per action, per state (1 where there is none), per latent.
        model: the network, on the CPU.
    """

    spec: ControllerSpec
    sizes: tuple[int, int, int]
    model: Any

    def to_latents(self, actions: F32, state: F32) -> F32:
        """Return the latents float32[n, d] that actions float32[n, samples, a] lead to from states float32[n, s]."""
        return self._ask(self.model.latents, actions, state)

    def to_actions(self, latents: F32, state: F32) -> F32:
        """Return the actions float32[n, samples, a] that latents float32[n, d] stand for in states float32[n, s]."""
        return self._ask(self.model.actions, latents, state)

    def save(self, path: Path) -> None:
        """Write it as safetensors, its configuration in the header."""
        told = {"format": FORMAT, "spec": json.dumps(asdict(self.spec)), "sizes": json.dumps(self.sizes)}
        save_weights(self.model.state_dict(), path, told)

    def _ask(self, how: Any, one: F32, state: F32) -> F32:
        import torch

        with torch.inference_mode():
            return how(torch.from_numpy(np.asarray(one, np.float32)), torch.from_numpy(_some(state))).numpy()


def fit_controller(actions: F32, state: F32, latents: F32, spec: ControllerSpec | None = None) -> Controller:
    """Train both ways at once.

    Args:
        actions: float32[n, samples, a], see `interval_actions`.
        state: float32[n, s]; s may be 0.
        latents: float32[n, d].
        spec: how.

    Raises:
        UsageError: there are too few intervals, or numbers that are not finite.
    """
    import torch

    spec = spec or ControllerSpec()
    if len(actions) < LEAST or not all(np.isfinite(x).all() for x in (actions, state, latents)):
        raise UsageError(f"{len(actions)} intervals with actions, state and latents: use {LEAST} or more, all of them finite")
    given = [torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (actions, _some(state), latents)]
    sizes = actions.shape[2], given[1].shape[1], latents.shape[1]
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = _build(spec, sizes)
        model.measure(*given)
        _train(model, spec, *given)
    return Controller(spec, sizes, model.eval().requires_grad_(False))


def load_controller(path: str | Path) -> Controller:
    """Read what `Controller.save` wrote.

    Raises:
        UsageError: it is something else.
    """
    tensors, told = load_weights(path), read_told(path)
    if told.get("format") != FORMAT:
        raise UsageError(f"{path} is no latent controller; name the file that `cotrain train-controller` wrote")
    spec = parse_settings(ControllerSpec, json.loads(told["spec"]))
    action, state, latent = json.loads(told["sizes"])
    model = _build(spec, (action, state, latent))
    model.load_state_dict(tensors)
    return Controller(spec, (action, state, latent), model.eval().requires_grad_(False))


def interval_actions(
    action: npt.NDArray[np.floating], first: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], samples: int
) -> F32:
    """Return the actions of intervals of steps `[first, stop)` at evenly spread places, float32[n, samples, a].

    Args:
        action: float[T, a] of every step.
        first: int64[n].
        stop: int64[n], after `first`.
        samples: how many places; an interval of fewer steps repeats some.
    """
    share = (np.arange(samples) + 0.5) / samples
    rows = first[:, None] + np.floor((stop - first)[:, None] * share).astype(np.int64)
    return action[np.minimum(rows, stop[:, None] - 1)].astype(np.float32)


def _some(state: F32) -> F32:
    """Return a state of at least one number: where there is none, nothing."""
    return np.asarray(state, np.float32) if state.shape[1] else np.zeros((len(state), 1), np.float32)


def _train(model: Any, spec: ControllerSpec, actions: Any, state: Any, latents: Any) -> None:
    import torch

    steps = torch.optim.AdamW(model.parameters(), spec.rate, weight_decay=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(steps, spec.steps)
    size = min(spec.batch, len(actions))
    for step in range(spec.steps):
        rows = torch.from_numpy((raw([spec.seed], step, size)[0] % np.uint64(len(actions))).astype(np.int64))
        a, s, z = actions[rows], state[rows], latents[rows]
        steps.zero_grad()
        loss = model.gap(model.latents(a, s), z, "latent") + model.gap(model.actions(z, s), a, "action")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
        falling.step()


def _build(spec: ControllerSpec, sizes: tuple[int, int, int]) -> Any:
    """Return the untrained network."""
    from annotators.latent.controller.network import Network

    return Network(spec.samples, spec.width, spec.heads, spec.layers, sizes)
