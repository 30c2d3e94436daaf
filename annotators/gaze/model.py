"""The network that predicts gaze: four stages of convolutions per picture, a transformer over pictures and places, a map out of it.

What it says is added to the logarithm of where people usually looked, so it starts from that prior and learns what pictures add. One
spec describes model and training; weights are safetensors with the spec beside them.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotators.gaze.labels import U8
from annotators.gaze.pseudo import PSEUDO
from annotators.gaze.recorded import RECORDED
from annotators.weights import load_weights, read_told, save_weights
from schemas.errors import UsageError
from transforms.gaze.maps import F32
from transforms.grid import I64

FORMAT = "cotrain-gaze"
CELL = 4  # pixels of a picture per cell of a map
DEEP = 16  # pixels per place of the transformer


@dataclass(frozen=True, slots=True)
class GazeNetSpec:
    """How the model is built and trained.

    Attributes:
        side: pixels of the square that pictures are stretched to; the map has a quarter of it.
        frames: pictures it sees, the present one last.
        hz: how many of them per second.
        width: channels of the first stage; the fourth has eight times as many.
        dim: of the transformer.
        layers: of the transformer.
        heads: of each.
        steps: of training.
        batch: windows per step.
        rate: learning rate of AdamW, rising over a twentieth of the steps, then falling along a cosine.
        decay: weight decay.
        sigma_cells: spread of a label, cells of the map.
        soft: weight of the distance between the map's mean and the label.
        least_crop: training sees crops of at least this share of each side, mirrored half of the time; gaze moves along.
        labels: `recorded`, or `pseudo_intent` for robots; never both.
        seed: of everything random.
    """

    side: int = 128
    frames: int = 8
    hz: float = 4.0
    width: int = 32
    dim: int = 384
    layers: int = 4
    heads: int = 6
    steps: int = 4000
    batch: int = 32
    rate: float = 5e-4
    decay: float = 0.05
    sigma_cells: float = 1.5
    soft: float = 0.1
    least_crop: float = 0.7
    labels: str = RECORDED
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            UsageError: names the field.
        """
        if self.side < 2 * DEEP or self.side % DEEP:
            raise UsageError(f"side={self.side} must be a multiple of {DEEP}, at least {2 * DEEP}")
        if self.dim % self.heads:
            raise UsageError(f"dim={self.dim} must be a multiple of heads={self.heads}")
        for name in ("frames", "width", "layers", "steps", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be 1 or more")
        if not self.hz > 0 or not self.sigma_cells > 0 or not 0 < self.least_crop <= 1:
            raise UsageError("hz and sigma_cells must be above 0, least_crop in 0..1")
        if self.labels not in (RECORDED, PSEUDO):
            raise UsageError(f"labels={self.labels!r} must be {RECORDED!r} or {PSEUDO!r}")

    @property
    def grid(self) -> int:
        """Cells of the map, either way."""
        return self.side // CELL


def build(spec: GazeNetSpec) -> Any:
    """Return the untrained model; its random numbers come from the seed alone."""
    import torch

    from annotators.gaze.network import GazeNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return GazeNet(spec.grid, spec.side // DEEP, spec.frames, spec.width, spec.dim, spec.layers, spec.heads)


def as_input(pictures: Any) -> Any:
    """Return float[..., 3, S, S] around 0 of uint8[..., S, S, 3]."""
    return pictures.movedim(-1, -3).float() / 127.5 - 1


def predict(model: Any, pictures: U8, window: I64, at_once: int, device: str = "cpu") -> F32:
    """Return maps float32[N, grid, grid], each summing to 1. Every picture is encoded once, whichever windows it is in.

    Args:
        model: of `build` or `load`.
        pictures: uint8[P, S, S, 3].
        window: int64[N, frames], rows of `pictures`, none after the last one of its window.
        at_once: pictures encoded, and windows decoded, at a time.
        device: where.
    """
    import torch

    model = model.to(device).eval()
    made = np.empty((len(window), *model.prior.shape), np.float32)
    used, place = np.unique(window, return_inverse=True)
    rows = place.reshape(window.shape)
    order = np.argsort(rows[:, -1], kind="stable")
    with torch.inference_mode():
        known: list[Any] = []  # tokens of the pictures so far; their finer features are needed only by windows that end there
        encoded = 0
        for a in range(0, len(order), at_once):
            mine = rows[order[a : a + at_once]]
            stop, fine, middle = int(mine[-1, -1]) + 1, dict[int, Any](), dict[int, Any]()
            ends = set(mine[:, -1].tolist())
            for first in range(encoded, stop, at_once):
                one = _encoded(model, pictures[used[first : min(first + at_once, stop)]], device)
                known.append(one[2])
                for at in ends & set(range(first, min(first + at_once, stop))):
                    fine[at], middle[at] = one[0][at - first], one[1][at - first]
            encoded = max(encoded, stop)
            tokens, last = torch.cat(known), mine[:, -1].tolist()
            known = [tokens]
            skips = (torch.stack([part[at] for at in last]) for part in (fine, middle))
            logits = model.decode(tokens[torch.from_numpy(mine).to(device)], *skips).float() + model.prior
            made[order[a : a + at_once]] = logits.flatten(1).softmax(1).reshape(logits.shape).cpu().numpy()
    return made


def _encoded(model: Any, pictures: U8, device: str) -> tuple[Any, Any, Any]:
    import torch

    fine, middle, deep = model.encode(as_input(torch.from_numpy(pictures).to(device)))
    return fine, middle, model.tokens(deep)


def save(model: Any, spec: GazeNetSpec, path: Path) -> None:
    """Write the weights as safetensors; how they were made is in the file's metadata."""
    save_weights(model.state_dict(), path, {"format": FORMAT, "spec": json.dumps(asdict(spec), sort_keys=True)})


def read_spec(path: str | Path) -> GazeNetSpec:
    """Read how weights were made, without loading them.

    Raises:
        UsageError: the file is missing, or holds something else.
    """
    told = read_told(path)
    if told.get("format") != FORMAT:
        raise UsageError(f"{path} holds no gaze model: its metadata says {told.get('format')!r}, not {FORMAT!r}")
    try:
        return GazeNetSpec(**json.loads(told["spec"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a gaze model: {error}") from error


def load(path: str | Path) -> Any:
    """Read what `save` wrote.

    Raises:
        UsageError: the file is missing, or holds something else.
    """
    model = build(read_spec(path))
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise UsageError(f"{path} cannot be read as a gaze model: {error}") from error
    return model.eval()
