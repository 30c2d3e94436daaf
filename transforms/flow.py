"""One direction for every denoiser: how policies name time, noise and velocity, and the way to the canonical form and back.

Canonical is x_t = t e + (1 - t) a and v = e - a, so t = 1 is noise: what LeRobot's and openpi's pi0 family use. Everything here is
plain arithmetic and works on NumPy arrays and on torch tensors alike. `t` must already broadcast against `x` (shape [B, 1, 1]).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

type Kind = Literal["flow", "ddpm_eps", "ddpm_sample", "regression", "categorical", "hidden"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How one policy's own action denoiser is to be read.

    Attributes:
        kind: what it predicts; `flow` is a velocity.
        tau_is_noise: whether its time is 1 (or `timesteps`) at pure noise.
        sign: +1 where its velocity is e - a, -1 where it is a - e.
        timesteps: its time runs from 0 to this; DDPM counts whole steps below it.
        sigma_min: noise left at its data end: x = s a + (1 - (1 - sigma_min) s) e with s = 1 - t.
        sampler: the tau its training draws, see `transforms.draws`.
    """

    kind: Kind = "flow"
    tau_is_noise: bool = True
    sign: int = 1
    timesteps: float = 1.0
    sigma_min: float = 0.0
    sampler: str = "uniform"

    def to_native(self, x: Any, t: Any) -> tuple[Any, Any]:
        """Return the point and the time at which the native network is to be asked about canonical `(x, t)`.

        With `sigma_min` the native path scales its points: c x_t lies on it, with c = 1 / (1 - sigma_min (1 - t)) and s = c (1 - t).
        """
        if self.sigma_min:
            scale = 1.0 / (1.0 - self.sigma_min * (1.0 - t))
            return x * scale, scale * (1.0 - t) * self.timesteps
        return x, (t if self.tau_is_noise else 1.0 - t) * self.timesteps

    def to_canonical(self, v: Any, x: Any, t: Any) -> Any:
        """Return e - a from the native velocity `v` that the network gave at its own `(x, t)`.

        With `sigma_min`, v = a - (1 - sigma_min) e and x = s a + (1 - (1 - sigma_min) s) e are two equations for a and e.
        """
        if self.sigma_min:
            return self.sigma_min * x - (1.0 + self.sigma_min * t / self.timesteps) * v
        return v if self.sign > 0 else -v


def noisy(action: Any, noise: Any, t: Any) -> Any:
    """Return x_t = t e + (1 - t) a."""
    return t * noise + (1.0 - t) * action


def ddpm_noisy(action: Any, noise: Any, alpha_bar: Any) -> Any:
    """Return x_k = sqrt(abar_k) a + sqrt(1 - abar_k) e (Ho et al. 2020, equation 4)."""
    return alpha_bar**0.5 * action + (1.0 - alpha_bar) ** 0.5 * noise


def ddpm_velocity(eps: Any, x: Any, alpha_bar: Any) -> Any:
    """Return e - a as a noise prediction implies it, at the DDPM's own noise level; never to be mixed with a flow's tau."""
    return eps - (x - (1.0 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def target(kind: Kind, action: Any, noise: Any) -> Any:
    """Return what a perfect denoiser of this kind would answer, knowing action and noise."""
    if kind == "flow":
        return noise - action
    return noise if kind == "ddpm_eps" else action


def euler(velocity: Callable[[Any, float], Any], noise: Any, steps: int) -> Any:
    """Integrate a canonical velocity field from t = 1 (noise) to t = 0 (action) in equal steps."""
    x = noise
    for k in range(steps):
        x = x - velocity(x, 1.0 - k / steps) / steps
    return x
