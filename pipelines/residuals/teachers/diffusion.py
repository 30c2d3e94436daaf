"""LeRobot's diffusion policy: a DDPM, whose noise (or sample) predictions are stored in its own space and never mixed with a flow's tau.

tau is k / n with k the DDPM's step, so that 0 is the least noise and nothing is lost in storing it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pipelines.residuals.conventions import convention
from pipelines.residuals.teacher import Batch, Needs, TeacherSpec
from pipelines.residuals.teachers.common import Policy, open_policy
from transforms.flow import Convention, Kind


@dataclass(frozen=True)
class DiffusionTeacher:
    """A `DiffusionPolicy`. A privileged teacher is one with a goal or a longer history beside it, over the same actions."""

    policy: Policy
    teacher_id: str = "diffusion"

    @classmethod
    def open(cls, path: str, device: str = "cpu") -> "DiffusionTeacher":
        """Open a checkpoint."""
        return cls(open_policy(path, "diffusion", device))

    @property
    def core(self) -> Any:
        """The model inside the policy."""
        return self.policy.module.diffusion

    @cached_property
    def spec(self) -> TeacherSpec:
        """See `TeacherSpec`."""
        config = self.policy.config
        return TeacherSpec(
            self.teacher_id, ddpm_convention(config), config.horizon, config.action_feature.shape[0],
            mask_id="diffusion: global conditioning", dtype=self.policy.dtype(), libraries=("diffusers",),
            **self.policy.hashes(DiffusionTeacher, type(self.policy.module), type(self.core)),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """A history of observations and the action chunk."""
        return self.policy.needs()

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Run the checkpoint's own preprocessing and stack its cameras."""
        import torch

        ready = self.policy.batch(batch)
        cameras = list(self.policy.config.image_features)
        if cameras:
            ready["observation.images"] = torch.stack([ready[c] for c in cameras], dim=-4)
        return ready | {"action": ready["action"].float()}

    def encode(self, ready: Batch, _aux: Mapping[str, Any]) -> Any:
        """Encode pictures and states once for all draws."""
        return self.core._prepare_global_conditioning(dict(ready))

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:  # noqa: ARG002 (both see the same)
        """Return the network's own prediction at step round(tau n)."""
        return self.core.unet(a_tau, steps_of(self.core.noise_scheduler, tau), global_cond=context)

    def alpha_bar(self, tau: Any) -> Any:
        """Return the share of signal at tau, [B]."""
        return alpha_bar(self.core.noise_scheduler, tau)

    def precise(self) -> AbstractContextManager[None]:
        """Compute in float32."""
        return self.policy.precise()


def ddpm_convention(config: Any) -> Convention:
    """Return the convention of a DDPM from its configuration."""
    kind: Kind = "ddpm_eps" if config.prediction_type == "epsilon" else "ddpm_sample"
    count = config.num_train_timesteps
    return replace(convention("diffusion"), kind=kind, timesteps=float(count), sampler=f"steps({count})")


def steps_of(scheduler: Any, tau: Any) -> Any:
    """Return the DDPM's steps for tau, int64[B]."""
    count = scheduler.config.num_train_timesteps
    return (tau * count).round().long().clamp(0, count - 1)


def alpha_bar(scheduler: Any, tau: Any) -> Any:
    """Return the cumulated alphas of a scheduler at tau."""
    return scheduler.alphas_cumprod.to(tau.device)[steps_of(scheduler, tau)]
