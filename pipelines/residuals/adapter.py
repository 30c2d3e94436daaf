"""The small network that PFD adds to a frozen policy, trained from a `frozen_pair` cache alone: no pictures, no policy.

Per action of the chunk it reads the student's velocity and tau, and, where the cache has kept them, the noised action and a context
vector; it answers a correction. Its last layer starts at zero, so that it starts as the student. The loss is PFD's:

    |v + d - v*|^2 + 0.5 |d - r|^2 + 0.1 |v + d - v_T|^2

with v* = e - a from the data. The first term is never optional in PFD: it is what keeps a wrong residual from doing harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.residuals.store import Cache
from schemas.errors import UsageError
from transforms.flow import noisy, target
from transforms.noise import normals

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Input = Literal["v_base", "a_tau", "context"]
CHUNK = 65_536
RANDOM = 1024  # stream of the random residual, far from those of the draws


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """How an adapter is built and trained.

    Attributes:
        inputs: besides tau; `a_tau` and `context` are more than PFD's own adapter sees.
        width: of the hidden layers.
        depth: number of linear layers.
        time_dim: sines and cosines of tau.
        steps: of the optimiser.
        batch: rows per step.
        lr: of AdamW, annealed by a cosine.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        weights: of the three terms: truth, residual, teacher.
        random_residual: replace every residual by noise of the same spread: a control.
        validate: share of the episodes that only choose the best step; 0: the last one is taken.
        every: steps between validations.
        seed: of initialisation and batches.
    """

    inputs: tuple[Input, ...] = ("v_base",)
    width: int = 512
    depth: int = 3
    time_dim: int = 256
    steps: int = 20_000
    batch: int = 4096
    lr: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    weights: tuple[float, float, float] = (1.0, 0.5, 0.1)
    random_residual: bool = False
    validate: float = 0.0
    every: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Rows:
    """Everything an adapter learns from, of some rows, in float32 on its device."""

    v_base: Any
    residual: Any
    tau: Any
    wanted: Any
    real: Any
    a_tau: Any
    context: Any = None


@dataclass
class Adapter:
    """A trained adapter: `adapter(rows)` answers corrections [n, H, A]."""

    config: AdapterConfig
    net: Any
    losses: list[float] = field(default_factory=list[float])

    def __call__(self, rows: Rows) -> Any:
        """Return the correction of each row's velocity."""
        import torch

        angles = (
            torch.linspace(0, np.log(1e4), self.config.time_dim // 2, device=rows.tau.device).neg().exp()
            * rows.tau[:, None]
            * 1000
        )
        hidden = self.net["time"](torch.cat([angles.sin(), angles.cos()], 1))[:, None]
        for name in self.config.inputs:
            given = getattr(rows, name)
            hidden = hidden + self.net[name](given if given.ndim == 3 else given[:, None])
        return self.net["body"](hidden)

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors."""
        from safetensors.torch import save_file

        save_file(dict(self.net.state_dict()), str(path))


def train_adapter(cache: Cache, config: AdapterConfig | None = None, segments: Sequence[int] | None = None) -> Adapter:
    """Train an adapter.

    Args:
        cache: of mode `frozen_pair`.
        config: see `AdapterConfig`.
        segments: the cache's episodes to learn from; None: all.

    Raises:
        UsageError: the cache has another mode, or none of the context that is asked for.
    """
    import torch

    config = config or AdapterConfig()
    check(cache, config)
    chosen = list(range(len(cache.segments))) if segments is None else list(segments)
    kept = round(len(chosen) * config.validate)
    learn, judge = gather(cache, chosen[kept:], config), gather(cache, chosen[:kept], config) if kept else None
    generator = torch.Generator().manual_seed(config.seed)
    adapter = Adapter(config, _network(cache, config, learn))
    optimiser = torch.optim.AdamW(adapter.net.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    best, held = np.inf, None
    for step in range(config.steps):
        picked = torch.randint(len(learn.tau), (min(config.batch, len(learn.tau)),), generator=generator)
        batch = _some(learn, picked)
        value = loss(adapter(batch), batch, config.weights)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(adapter.net.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        adapter.losses.append(float(value.detach()))
        if judge is not None and (step + 1) % config.every == 0:
            with torch.no_grad():
                now = float(loss(adapter(judge), judge, config.weights))
            if now < best:
                best, held = now, {k: v.clone() for k, v in adapter.net.state_dict().items()}
    if held is not None:
        adapter.net.load_state_dict(held)
    return adapter


def loss(correction: Any, rows: Rows, weights: tuple[float, float, float]) -> Any:
    """Return PFD's loss over what is not padding."""
    final = rows.v_base + correction
    terms = (final - rows.wanted, correction - rows.residual, final - rows.v_base - rows.residual)
    count = (rows.real.sum() * correction.shape[-1]).clamp(min=1)
    return sum(w * ((term**2) * rows.real).sum() / count for w, term in zip(weights, terms, strict=True))


def check(cache: Cache, config: AdapterConfig) -> None:
    """Refuse what cannot be trained.

    Raises:
        UsageError: it says why.
    """
    if cache.shape.mode != "frozen_pair":
        raise UsageError(
            f"the cache of {cache.teacher} has mode {cache.shape.mode}; adapters are trained from frozen_pair caches alone"
        )
    if cache.header.kind != "flow" and "a_tau" in config.inputs:
        raise UsageError(
            f"the teacher {cache.teacher} is a {cache.header.kind}; its noised actions cannot be made again without it"
        )
    if "context" in config.inputs and not cache.shape.context:
        raise UsageError(f"the cache of {cache.teacher} keeps no context; cache with --set 'context=[\"observation.state\"]'")


def gather(cache: Cache, segments: Sequence[int], config: AdapterConfig) -> Rows:
    """Return the rows of some episodes; the noise is made again from its seeds, `wanted` = v* from noise and action."""
    import torch

    rows = (
        np.concatenate([np.arange(cache.offsets[s], cache.offsets[s + 1]) for s in segments])
        if len(segments)
        else np.empty(0, int)
    )
    names = [
        "v_base",
        "residual",
        "tau_a",
        "action_is_pad",
        "action",
        "noise",
        "seed",
        *(["context"] if cache.shape.context else []),
    ]
    parts = [_plain(cache, cache.take(rows[i : i + CHUNK], names), config) for i in range(0, len(rows), CHUNK)]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return Rows(**{name: torch.from_numpy(values) for name, values in joined.items()})


def _plain(cache: Cache, found: dict[str, npt.NDArray[Any]], config: AdapterConfig) -> dict[str, Any]:
    noise, action, tau = (found[n].astype(np.float32) for n in ("noise", "action", "tau_a"))
    residual = found["residual"].astype(np.float32)
    if config.random_residual:
        shape = (cache.shape.horizon, cache.shape.action_dim)
        residual = normals(found["seed"].tolist(), RANDOM, shape).astype(np.float32) * residual.std()
    t = tau[:, None, None]
    plain: dict[str, Any] = {
        "v_base": found["v_base"].astype(np.float32), "residual": residual, "tau": tau,
        "wanted": target(cache.header.kind, action, noise), "real": (~found["action_is_pad"]).astype(np.float32)[..., None],  # pyright: ignore[reportArgumentType]
        "a_tau": noisy(action, noise, t),
    }  # fmt: skip
    return plain | ({"context": found["context"].astype(np.float32)} if "context" in found else {})


def _network(cache: Cache, config: AdapterConfig, rows: Rows) -> Any:
    import torch
    from torch.nn import Linear, ModuleDict, Sequential, SiLU

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        size = cache.shape.action_dim
        widths = {"v_base": size, "a_tau": size, "context": 0 if rows.context is None else rows.context.shape[1]}
        layers: list[Any] = []
        for _ in range(config.depth - 1):
            layers += [SiLU(), Linear(config.width, config.width)]
        last = Linear(config.width, size)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        body = Sequential(*layers, SiLU(), last)
        time = Sequential(Linear(config.time_dim, config.width), SiLU(), Linear(config.width, config.width))
        return ModuleDict({"time": time, "body": body, **{name: Linear(widths[name], config.width) for name in config.inputs}})


def _some(rows: Rows, picked: Any) -> Rows:
    return Rows(**{name: None if (v := getattr(rows, name)) is None else v[picked] for name in rows.__dataclass_fields__})
