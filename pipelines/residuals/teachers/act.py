"""LeRobot's ACT: a regression. It answers a chunk at once, with its latent at zero, so that there is no noise and no tau."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.residuals.conventions import convention
from pipelines.residuals.teacher import Batch, Needs, TeacherSpec
from pipelines.residuals.teachers.common import Policy, open_policy


@dataclass(frozen=True)
class ActTeacher:
    """An `ACTPolicy`, of kind `regression`."""

    policy: Policy
    teacher_id: str = "act"

    @classmethod
    def open(cls, path: str, device: str = "cpu") -> "ActTeacher":
        """Open a checkpoint."""
        return cls(open_policy(path, "act", device))

    @cached_property
    def spec(self) -> TeacherSpec:
        """See `TeacherSpec`."""
        config = self.policy.config
        return TeacherSpec(
            self.teacher_id, convention("act"), config.chunk_size, config.action_feature.shape[0], mask_id="act: latent at zero",
            dtype=self.policy.dtype(), **self.policy.hashes(ActTeacher, type(self.policy.module), type(self.policy.module.model)),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """Pictures, state and the action chunk."""
        return self.policy.needs()

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Run the checkpoint's own preprocessing."""
        ready = self.policy.batch(batch)
        return ready | {"action": ready["action"].float()}

    def encode(self, ready: Batch, _aux: Mapping[str, Any]) -> Any:
        """Answer, once: in evaluation mode the latent is zero and the action is not looked at."""
        return self.policy.module.predict_action_chunk({k: v for k, v in ready.items() if k != "action"})

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:  # noqa: ARG002 (no noise, no mask)
        """Return the chunk."""
        return context

    def precise(self) -> AbstractContextManager[None]:
        """Compute in float32."""
        return self.policy.precise()
