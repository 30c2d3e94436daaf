"""The autoencoder behind depth tokens: convolutions to a 10 by 10 grid, the nearest of 128 codes per cell, and back (van den Oord, 2017).

Codes follow their cells by an exponential moving average; codes nobody uses are moved onto cells that are far from theirs.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.depth.frames import SIDE
from annotators.weights import load_weights, read_told, save_weights
from schemas.errors import UsageError

GRID = 10
FORMAT = "cotrain-depth-codes"


@dataclass(frozen=True, slots=True)
class DepthCodesSpec:
    """How the model is built and trained.

    Attributes:
        codes: how many.
        width: channels.
        steps: of training.
        batch: pictures per step.
        rate: learning rate of AdamW, falling to a fiftieth along a cosine.
        decay: of the moving average.
        commitment: weight of the pull of cells to their codes.
        seed: of everything random.
    """

    codes: int = 128
    width: int = 64
    steps: int = 2000
    batch: int = 32
    rate: float = 1e-3
    decay: float = 0.97
    commitment: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.codes <= 256 or self.width < 4 or self.steps < 1 or self.batch < 1:
            raise UsageError(f"codes {self.codes}, width {self.width}, steps {self.steps}: use 2 to 256, 4 or more, 1 or more")


def build(spec: DepthCodesSpec) -> Any:
    """Return the untrained model; its random numbers come from the seed alone."""
    import torch
    from torch import nn

    class DepthCodes(nn.Module):
        encoder: Any
        decoder: Any
        book: Any

        def __init__(self) -> None:
            super().__init__()
            w = spec.width
            self.encoder = nn.Sequential(
                nn.Conv2d(1, w // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(w // 2, w, 4, 2, 1), nn.ReLU(),
                nn.Conv2d(w, w, 4, 2, 1), nn.ReLU(), nn.Conv2d(w, w, 1),
            )  # fmt: skip
            self.decoder = nn.Sequential(
                nn.Conv2d(w, w, 3, 1, 1), nn.ReLU(), nn.ConvTranspose2d(w, w, 4, 2, 1), nn.ReLU(),
                nn.ConvTranspose2d(w, w // 2, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(w // 2, 1, 4, 2, 1),
            )  # fmt: skip
            self.register_buffer("book", torch.randn(spec.codes, w))
            self.register_buffer("count", torch.ones(spec.codes))
            self.register_buffer("total", self.book.clone())

        def cells(self, x: Any) -> Any:
            """Return the cells of pictures [N, 1, 80, 80], [N * 100, width]."""
            return self.encoder(x).permute(0, 2, 3, 1).reshape(-1, spec.width)

        def nearest(self, cells: Any) -> Any:
            """Return the code nearest to each cell; single precision, whatever runs around it."""
            return torch.cdist(cells.float()[None], self.book.float()[None])[0].argmin(1)

        def decode(self, vectors: Any, count: int) -> Any:
            """Return pictures [count, 1, 80, 80] of cells or their codes."""
            return self.decoder(vectors.reshape(count, GRID, GRID, spec.width).permute(0, 3, 1, 2))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return DepthCodes()


def encode(model: Any, pictures: npt.NDArray[np.float32], at_once: int, device: str = "cpu") -> tuple[Any, Any]:
    """Return codes uint8[N, 100] and what they decode to, float32[N, 80, 80], of log depth float32[N, 80, 80]."""
    import torch

    model = model.to(device).eval()
    codes, found = np.empty((len(pictures), GRID * GRID), np.uint8), np.empty((len(pictures), SIDE, SIDE), np.float32)
    with torch.inference_mode(), torch.autocast("cuda", enabled=False):
        for start in range(0, len(pictures), at_once):
            x = torch.from_numpy(pictures[start : start + at_once, None]).to(device)
            chosen = model.nearest(model.cells(x))
            codes[start : start + len(x)] = chosen.reshape(len(x), -1).cpu().numpy().astype(np.uint8)
            found[start : start + len(x)] = model.decode(model.book[chosen], len(x))[:, 0].float().cpu().numpy()
    return codes, found


def train(pictures: npt.NDArray[np.float32], measured: npt.NDArray[np.bool_], spec: DepthCodesSpec) -> Any:
    """Train on log depth float32[N, 80, 80]; `measured` bool[N, 80, 80] says which pixels count.

    Raises:
        UsageError: there is no picture.
    """
    import torch

    from transforms.noise import raw

    if not len(pictures):
        raise UsageError("no depth picture to train on")
    model = build(spec)
    optimiser: Any = torch.optim.AdamW(model.parameters(), lr=spec.rate)
    seen, weight = torch.from_numpy(pictures[:, None]), torch.from_numpy(measured[:, None].astype(np.float32))
    for step in range(spec.steps):
        rows = torch.from_numpy((raw([spec.seed], step, spec.batch)[0] % np.uint64(len(pictures))).astype(np.int64))
        for group in optimiser.param_groups:
            group["lr"] = spec.rate * (0.51 + 0.49 * math.cos(math.pi * step / spec.steps))
        _step(model, optimiser, seen[rows], weight[rows], spec, step)
    return model.eval()


def _step(model: Any, optimiser: Any, x: Any, weight: Any, spec: DepthCodesSpec, step: int) -> None:
    import torch

    cells = model.cells(x)
    if step == 0:  # codes begin on cells, or most of them would never be the nearest
        with torch.no_grad():
            model.count.zero_()
            revive(model, cells.detach())
    chosen = model.nearest(cells.detach())
    vectors = model.book[chosen]
    passed = cells + (vectors - cells).detach()  # straight through
    loss = ((model.decode(passed, len(x)) - x).abs() * weight).sum() / weight.sum().clamp(min=1)
    loss = loss + spec.commitment * ((cells - vectors.detach()) ** 2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        follow(model, cells.detach(), chosen, spec.decay)
        if step % 10 == 9 and step < spec.steps * 0.8:
            revive(model, cells.detach())


def follow(model: Any, cells: Any, chosen: Any, decay: float) -> None:
    """Move codes towards the mean of the cells that chose them."""
    import torch

    hits = torch.zeros_like(model.count).index_add_(0, chosen, torch.ones(len(chosen)))
    sums = torch.zeros_like(model.total).index_add_(0, chosen, cells)
    model.count.mul_(decay).add_(hits, alpha=1 - decay)
    model.total.mul_(decay).add_(sums, alpha=1 - decay)
    model.book.copy_(model.total / model.count.clamp(min=1e-3)[:, None])


def revive(model: Any, cells: Any) -> None:
    """Put codes that hardly any cell chooses onto the cells that are furthest from every code."""
    import torch

    idle = torch.nonzero(model.count < 0.05)[:, 0]
    if not len(idle):
        return
    far = torch.cdist(cells[None], model.book[None])[0].min(1).values
    spread = torch.argsort(far, descending=True, stable=True)[:: max(1, len(far) // (2 * len(idle)))][: len(idle)]
    idle = idle[: len(spread)]
    model.book[idle] = cells[spread]
    model.total[idle] = cells[spread]
    model.count[idle] = 1.0


def save(model: Any, spec: DepthCodesSpec, path: Path) -> None:
    """Write the weights as safetensors; how they were made is in the file's metadata."""
    save_weights(model.state_dict(), path, {"format": FORMAT, "spec": json.dumps(asdict(spec), sort_keys=True)})


def load(path: str | Path) -> Any:
    """Read what `save` wrote.

    Raises:
        UsageError: the file is missing, or holds something else.
    """
    tensors, told = load_weights(path), read_told(path)
    if told.get("format") != FORMAT:
        raise UsageError(f"{path} holds no depth codes: its metadata says {told.get('format')!r}, not {FORMAT!r}")
    try:
        model = build(DepthCodesSpec(**json.loads(told["spec"])))
        model.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as depth codes: {error}") from error
    return model.eval()
