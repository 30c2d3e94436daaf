"""Velocities of pi0, pi0.5 and SmolVLA, any number per observation from one pass over its prefix, without touching the policies.

These policies integrate with LeRobot's `euler_integrate`, which hands each velocity computation to a real-time-chunking processor
where one is enabled. The probe is such a processor: it keeps the function it is handed, which closes over the prefix's keys and
values and answers for any point and time, and lets the integration run on over zeros.
"""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from pipelines.residuals.conventions import convention
from pipelines.residuals.teacher import Batch, Needs, TeacherSpec
from pipelines.residuals.teachers.common import Policy, open_policy
from schemas.errors import UsageError


class VelocityProbe:
    """Stands in for a real-time-chunking processor and keeps the policy's velocity function."""

    def __init__(self) -> None:
        self.velocity: Any = None

    def is_debug_enabled(self) -> bool:
        """Say that nothing is to be tracked."""
        return False

    def denoise_step(self, *, x_t: Any, original_denoise_step_partial: Any, **_: Any) -> Any:
        """Keep the function and answer nothing, so that no step is computed."""
        import torch

        self.velocity = original_denoise_step_partial
        return torch.zeros_like(x_t)


@dataclass(frozen=True)
class FlowPolicyTeacher:
    """A policy of the pi0 family. It knows nothing that its student does not: make a pair of it, or a student.

    Raises:
        UsageError: the policy was compiled, so that its integration cannot be entered.
    """

    policy: Policy
    teacher_id: str = ""
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.policy.config.compile_model:
            raise UsageError(
                f"{self.name}: compile_model hides the integration that is probed; load the checkpoint with compile_model=false"
            )

    @classmethod
    def open(cls, path: str, device: str = "cpu") -> Self:
        """Open a checkpoint."""
        return cls(open_policy(path, cls.kind, device))

    @property
    def name(self) -> str:
        """Its id."""
        return self.teacher_id or self.kind

    @cached_property
    def spec(self) -> TeacherSpec:
        """See `TeacherSpec`."""
        config = self.policy.config
        return TeacherSpec(
            self.name, convention(self.kind), config.chunk_size, config.action_feature.shape[0], config.max_action_dim,
            mask_id=f"{self.kind}: prefix and actions", dtype=self.policy.dtype(), libraries=("transformers",),
            **self.policy.hashes(type(self), FlowPolicyTeacher, VelocityProbe, type(self.policy.module), type(self.policy.module.model)),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """Pictures, state and the action chunk."""
        return self.policy.needs()

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Run the checkpoint's own preprocessing."""
        ready = self.policy.batch(batch)
        if "action" in ready:
            ready["action"] = ready["action"].float()
        return ready

    def encode(self, ready: Batch, _aux: Mapping[str, Any]) -> Any:
        """Run the prefix once, through the public `predict_action_chunk`; return the policy's velocity function of it."""
        module, probe = self.policy.module, VelocityProbe()
        module.reset()  # queues of an earlier batch would be stacked into this one
        with probing(module, probe):
            module.predict_action_chunk({k: v for k, v in ready.items() if k != "action"})
        return probe.velocity

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:  # noqa: ARG002 (both see the same)
        """Answer at any point and time; the padding comes back behind the action."""
        return context(a_tau, tau)

    def precise(self) -> AbstractContextManager[None]:
        """Compute in float32."""
        return self.policy.precise()


@contextmanager
def probing(policy: Any, probe: VelocityProbe) -> Generator[None]:
    """Enable the probe inside the block and leave the policy as it was."""
    held = policy.config.rtc_config, policy.model.rtc_processor
    policy.config.rtc_config, policy.model.rtc_processor = SimpleNamespace(enabled=True), probe
    try:
        yield
    finally:
        policy.config.rtc_config, policy.model.rtc_processor = held


@dataclass(frozen=True)
class Pi0Teacher(FlowPolicyTeacher):
    """pi0 of LeRobot."""

    kind: ClassVar[str] = "pi0"


@dataclass(frozen=True)
class Pi05Teacher(FlowPolicyTeacher):
    """pi0.5 of LeRobot."""

    kind: ClassVar[str] = "pi05"


@dataclass(frozen=True)
class SmolVLATeacher(FlowPolicyTeacher):
    """SmolVLA of LeRobot."""

    kind: ClassVar[str] = "smolvla"
