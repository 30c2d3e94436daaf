"""LeRobot's multi-task DiT, either of its objectives: a flow that runs from noise at 0 to data at 1, or a DDPM."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pipelines.residuals.conventions import convention
from pipelines.residuals.teacher import Batch, Needs, TeacherSpec
from pipelines.residuals.teachers.common import Policy, open_policy
from pipelines.residuals.teachers.diffusion import alpha_bar, ddpm_convention, steps_of
from transforms.flow import Convention


@dataclass(frozen=True)
class MultiTaskDitTeacher:
    """A `MultiTaskDiTPolicy`."""

    policy: Policy
    teacher_id: str = "multi_task_dit"

    @classmethod
    def open(cls, path: str, device: str = "cpu") -> "MultiTaskDitTeacher":
        """Open a checkpoint."""
        return cls(open_policy(path, "multi_task_dit", device))

    @cached_property
    def convention(self) -> Convention:
        """Its flow's, with its own sigma_min and sampler; or its DDPM's."""
        config = self.policy.config
        if not config.is_flow_matching:
            return ddpm_convention(config)
        beta = f"{config.timestep_sampling_alpha:g},{config.timestep_sampling_beta:g},{config.timestep_sampling_s:g}"
        sampler = f"flipped_beta({beta})" if config.timestep_sampling_strategy == "beta" else "uniform"
        return replace(convention("multi_task_dit"), sigma_min=config.sigma_min, sampler=sampler)

    @cached_property
    def spec(self) -> TeacherSpec:
        """See `TeacherSpec`."""
        config, module = self.policy.config, self.policy.module
        return TeacherSpec(
            self.teacher_id, self.convention, config.horizon, config.action_feature.shape[0],
            mask_id="multi_task_dit: conditioning vector", dtype=self.policy.dtype(), attention="sdpa",
            libraries=("transformers", "diffusers"),
            **self.policy.hashes(MultiTaskDitTeacher, type(module), type(module.observation_encoder), type(module.noise_predictor)),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """A history of observations and the action chunk."""
        return self.policy.needs()

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Run the checkpoint's own preprocessing and stack its cameras."""
        ready = self.policy.module._prepare_batch(self.policy.batch(batch))
        return ready | {"action": ready["action"].float()}

    def encode(self, ready: Batch, _aux: Mapping[str, Any]) -> Any:
        """Encode pictures, state and text once for all draws."""
        return self.policy.module.observation_encoder.encode(dict(ready))

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:  # noqa: ARG002 (both see the same)
        """Ask at the policy's own point and time and answer canonically; a DDPM answers in its own space."""
        net = self.policy.module.noise_predictor
        if not self.policy.config.is_flow_matching:
            return net(a_tau, steps_of(self.policy.module.objective.noise_scheduler, tau), conditioning_vec=context)
        x, time = self.convention.to_native(a_tau, tau.reshape(-1, 1, 1))
        answer = net(x, time.reshape(-1), conditioning_vec=context)
        return self.convention.to_canonical(answer, x, time)

    def alpha_bar(self, tau: Any) -> Any:
        """Return the share of signal at tau, [B]; of the DDPM objective only."""
        return alpha_bar(self.policy.module.objective.noise_scheduler, tau)

    def precise(self) -> AbstractContextManager[None]:
        """Compute in float32."""
        return self.policy.precise()
