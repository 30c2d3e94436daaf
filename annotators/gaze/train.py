"""Trains the gaze network on labelled pictures: KL divergence to a blurred label, a little distance, crops and mirrors that gaze follows."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotators.gaze.labels import Labelled
from annotators.gaze.model import GazeNetSpec, as_input, build
from annotators.gaze.priors import mean_map
from schemas.errors import UsageError
from transforms.gaze.moves import Moves
from transforms.noise import raw, uniforms
from transforms.rotation import F64

LOGGED = 50  # steps between two numbers of the curve
LEAST = 1e-6  # of the prior's map, so that its logarithm is finite
MARGIN = 0.02  # a label stays this far inside of a crop


@dataclass(frozen=True)
class Trained:
    """A model, and the loss along its training: (step, mean loss since the last one)."""

    model: Any
    losses: tuple[tuple[int, float], ...]


def train(labelled: Labelled, spec: GazeNetSpec, device: str = "cpu") -> Trained:
    """Train a model.

    Args:
        labelled: fixations of the kind that the spec names, with windows of its length and pictures of its side.
        spec: of model and training.
        device: where.

    Raises:
        UsageError: there is nothing to learn from, or it is of another kind than the spec says.
    """
    import torch

    check(labelled, spec)
    model = build(spec)
    grid = (spec.grid, spec.grid)
    model.prior.copy_(torch.from_numpy(np.log(mean_map(labelled.xy, grid, 2 * spec.sigma_cells / spec.grid) + LEAST)))
    model = model.to(device).train()
    optimiser: Any = torch.optim.AdamW(model.parameters(), lr=spec.rate, weight_decay=spec.decay)
    losses, curve = list[float](), list[tuple[int, float]]()
    for step in range(spec.steps):
        for group in optimiser.param_groups:
            group["lr"] = spec.rate * _schedule(step, spec.steps)
        losses.append(_step(model, optimiser, labelled, spec, step, device))
        if (step + 1) % LOGGED == 0 or step + 1 == spec.steps:
            curve.append((step + 1, float(np.mean(losses))))
            losses.clear()
    return Trained(model.to("cpu").eval(), tuple(curve))


def check(labelled: Labelled, spec: GazeNetSpec) -> None:
    """Refuse labels that do not fit a spec.

    Raises:
        UsageError: they are none, of another kind, or shaped otherwise.
    """
    if not len(labelled):
        raise UsageError("no fixation to train on")
    if labelled.source != spec.labels:
        raise UsageError(f"the labels are {labelled.source}, the spec says {spec.labels}: gaze of different kinds is never mixed")
    if labelled.window.shape[1] != spec.frames or labelled.pictures.shape[1] != spec.side:
        raise UsageError(
            f"windows of {labelled.window.shape[1]} pictures of {labelled.pictures.shape[1]} pixels do not fit a spec of "
            f"{spec.frames} and {spec.side}"
        )


def _schedule(step: int, steps: int) -> float:
    rise = max(1, steps // 20)
    return min(1.0, (step + 1) / rise) * (0.51 + 0.49 * math.cos(math.pi * step / steps))


def _step(model: Any, optimiser: Any, labelled: Labelled, spec: GazeNetSpec, step: int, device: str) -> float:
    import torch

    rows = (raw([spec.seed], step, spec.batch)[0] % np.uint64(len(labelled))).astype(np.int64)
    moves, xy = crops(labelled.xy[rows], spec, step)
    windows = as_input(torch.from_numpy(labelled.pictures[labelled.window[rows]]).to(device))
    seen, prior = moved(windows, model.prior, torch.from_numpy(moves).to(device))
    with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
        added = model(seen)
    loss = cost(added.float() + prior, torch.from_numpy(xy.astype(np.float32)).to(device), spec)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def cost(logits: Any, xy: Any, spec: GazeNetSpec) -> Any:
    """Return the mean loss of maps [B, G, G] given as logits, for points [B, 2]: KL to a Gaussian, and the distance of the map's mean."""
    import torch

    centres = (torch.arange(spec.grid, device=logits.device) + 0.5) / spec.grid
    wide = spec.sigma_cells / spec.grid
    across, down = (torch.exp(-((centres - xy[:, k, None]) ** 2) / (2 * wide**2)) for k in (0, 1))
    label = down[:, :, None] * across[:, None, :]
    label = (label / label.sum((1, 2), keepdim=True)).flatten(1)
    logs = logits.flatten(1).log_softmax(1)
    divergence = (label * (label.clamp(min=1e-12).log() - logs)).sum(1)
    share = logs.exp().reshape(logits.shape)
    mean = torch.stack([(share.sum(1) * centres).sum(1), (share.sum(2) * centres).sum(1)], 1)
    return divergence.mean() + spec.soft * (mean - xy).abs().sum(1).mean() * spec.grid


def crops(xy: F64, spec: GazeNetSpec, step: int) -> tuple[np.ndarray[Any, Any], F64]:
    """Draw a crop around each label, mirrored half of the time; a function of the seed and the step.

    Returns:
        float32[B, 2, 3], for `torch.nn.functional.affine_grid`, and the labels in the cropped pictures, float64[B, 2].
    """
    draws = uniforms([spec.seed], step + (1 << 32), 4 * len(xy)).reshape(len(xy), 4)
    grids, points = np.empty((len(xy), 2, 3), np.float32), np.empty_like(xy)
    for row, ((x, y), (size, left, top, mirrored)) in enumerate(zip(xy.tolist(), draws.tolist(), strict=True)):
        wide = spec.least_crop + (1 - spec.least_crop) * size
        low = [max(0.0, min(v + MARGIN, 1.0) - wide) for v in (x, y)]
        high = [min(1.0 - wide, max(v - MARGIN, 0.0)) for v in (x, y)]
        a, b = (lo + (max(hi, lo) - lo) * u for lo, hi, u in zip(low, high, (left, top), strict=True))
        moves = Moves().crop(a, b, a + wide, b + wide)
        moves = moves.mirror() if mirrored < 0.5 else moves
        points[row] = moves.forward(np.array([x, y]))
        back = np.linalg.inv(moves.matrix)  # new shares to old ones; torch counts both from -1 to 1
        grids[row, :, :2] = back[:2, :2]
        grids[row, :, 2] = 2 * back[:2, 2] + back[:2, :2].sum(1) - 1
    return grids, points


def moved(windows: Any, prior: Any, grids: Any) -> tuple[Any, Any]:
    """Return windows [B, F, 3, S, S] and the prior [G, G] as the crops show them, [B, F, 3, S, S] and [B, G, G]."""
    import torch

    count, frames, _, side, _ = windows.shape
    flat = windows.flatten(1, 2)
    where = torch.nn.functional.affine_grid(grids, [count, 1, side, side], align_corners=False)
    seen = torch.nn.functional.grid_sample(flat, where, mode="bilinear", padding_mode="border", align_corners=False)
    coarse = torch.nn.functional.affine_grid(grids, [count, 1, *prior.shape], align_corners=False)
    logs = torch.nn.functional.grid_sample(
        prior.expand(count, 1, *prior.shape), coarse, mode="bilinear", padding_mode="border", align_corners=False
    )
    return seen.reshape(count, frames, 3, side, side), logs[:, 0]
