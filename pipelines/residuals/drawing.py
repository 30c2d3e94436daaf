"""The random part of a cache: seeds, noise and tau of every draw, all functions of episode, frame and draw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.residuals.config import CacheConfig
from pipelines.residuals.teacher import TeacherSpec
from transforms.draws import strata
from transforms.noise import normals, seed_of, uniforms

NOISE, TAU, TAU_AUX = 0, 256, 257  # streams; the i-th auxiliary noise, by name, has stream 1 + i
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draws:
    """K draws of B frames.

    Attributes:
        seeds: uint64[B, K].
        noise: float16[B, K, H, width].
        tau: float32[B, K]; all of a frame's draws share its range out evenly.
        tau_aux: float32[B, Kv], NaN where there is no auxiliary noise.
        aux: one per auxiliary draw: its noises by name, float16[B, *shape].
    """

    seeds: npt.NDArray[np.uint64]
    noise: npt.NDArray[np.float16]
    tau: F32
    tau_aux: F32
    aux: tuple[dict[str, npt.NDArray[np.float16]], ...]

    @property
    def rows_tau_aux(self) -> F32:
        """Each row's own, float32[B, K]."""
        return np.repeat(self.tau_aux, self.tau.shape[1] // self.tau_aux.shape[1], axis=1)

    def groups(self) -> Iterator[tuple[int, range]]:
        """Yield every auxiliary draw with the draws that share it."""
        each = self.tau.shape[1] // len(self.aux)
        for j in range(len(self.aux)):
            yield j, range(j * each, (j + 1) * each)

    def aux_inputs(self, j: int, device: Any) -> dict[str, Any]:
        """Return what `Teacher.encode` is given of an auxiliary draw, as tensors: every noise, and its `tau_<name>`."""
        import torch

        noises = {name: torch.from_numpy(noise).to(device).float() for name, noise in self.aux[j].items()}
        tau = torch.from_numpy(self.tau_aux[:, j].copy()).to(device)
        return noises | {f"tau_{name}": tau for name in noises}


def seeds_of(root: int, dataset: str, episode_id: str, frames: Sequence[int], draws: int) -> npt.NDArray[np.uint64]:
    """Return the seed of every draw, uint64[B, K]."""
    found = [[seed_of(root, dataset, episode_id, frame, k) for k in range(draws)] for frame in frames]
    return np.array(found, np.uint64).reshape(len(frames), draws)


def draw(spec: TeacherSpec, config: CacheConfig, dataset: str, episode_id: str, frames: Sequence[int]) -> Draws:
    """Draw for some frames of an episode. Rows do not depend on which frames are drawn together."""
    seeds = seeds_of(config.seed, dataset, episode_id, frames, config.draws)
    flat, shape = seeds.reshape(-1).tolist(), seeds.shape
    unit = uniforms(flat, TAU, 1).reshape(shape)
    sampler = config.tau or spec.convention.sampler
    tau = strata(sampler, unit, np.arange(config.draws), config.draws).astype(np.float32)
    noise = normals(flat, NOISE, (spec.horizon, spec.width)).reshape(*shape, spec.horizon, spec.width)
    leaders = seeds[:, :: config.draws // config.video_draws]
    return Draws(
        seeds, noise, tau, _tau_aux(spec, config, leaders), tuple(_aux(spec, leaders[:, j]) for j in range(config.video_draws))
    )


def noise_of(seeds: npt.NDArray[np.uint64], horizon: int, width: int, action_dim: int) -> npt.NDArray[np.float16]:
    """Return the action's noise of rows again from their seeds, float16[n, H, A]."""
    return normals(seeds.tolist(), NOISE, (horizon, width))[..., :action_dim]


def _tau_aux(spec: TeacherSpec, config: CacheConfig, leaders: npt.NDArray[np.uint64]) -> F32:
    if not spec.aux_noise:
        return np.full(leaders.shape, np.nan, np.float32)
    name = min(spec.aux_noise)
    sampler = {"train_schedule": spec.aux_sampler.get(name, "uniform"), "clean": "fixed(0)"}.get(
        config.future_noise, config.future_noise
    )
    unit = uniforms(leaders.reshape(-1).tolist(), TAU_AUX, 1).reshape(leaders.shape)
    return strata(sampler, unit, np.arange(config.video_draws), config.video_draws).astype(np.float32)


def _aux(spec: TeacherSpec, leaders: npt.NDArray[np.uint64]) -> dict[str, Any]:
    return {name: normals(leaders.tolist(), 1 + i, spec.aux_noise[name]) for i, name in enumerate(sorted(spec.aux_noise))}
