"""Any layer of any teacher as a `hidden` one: action-token states for VITA-VLA, embeddings of single frames for past-token prediction."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pipelines.residuals.fingerprints import digest_of
from pipelines.residuals.teacher import Batch, Needs, Teacher, TeacherSpec
from schemas.errors import UsageError
from transforms.flow import Convention


@dataclass(frozen=True)
class HiddenTeacher:
    """A teacher whose answer is what one of its layers puts out, read by a hook; the model itself is not touched.

    Attributes:
        teacher: the model behind it.
        module: the torch module that holds the layer.
        layer: the layer's name in it, as `named_modules` gives it.
        batch_axis: which axis of the layer's output counts samples; it becomes the first.
    """

    teacher: Teacher
    module: Any
    layer: str
    batch_axis: int = 0

    def __post_init__(self) -> None:
        names = [name for name, _ in self.module.named_modules() if name]
        if self.layer not in names:
            from difflib import get_close_matches

            near = get_close_matches(self.layer, names, 3, 0.3)
            raise UsageError(
                f"{self.teacher.spec.teacher_id} has no layer {self.layer!r}; near it are {', '.join(near) or 'none'}"
            )

    @cached_property
    def spec(self) -> TeacherSpec:
        """The teacher's, of kind `hidden`."""
        own = self.teacher.spec
        return replace(
            own, convention=Convention(kind="hidden"), privileged=(), aux_noise={}, aux_sampler={},
            config_sha=digest_of([own.config_sha, self.layer, self.batch_axis]),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """What the teacher reads."""
        return self.teacher.needs

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Prepare as the teacher does."""
        return self.teacher.prepare(batch)

    def encode(self, ready: Batch, aux: Mapping[str, Any]) -> Any:
        """Encode once and keep what the layer put out; the last time, where it ran several times."""
        seen: list[Any] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        handle = self.module.get_submodule(self.layer).register_forward_hook(keep)
        try:
            self.teacher.encode(ready, aux)
        finally:
            handle.remove()
        if not seen:
            raise UsageError(
                f"layer {self.layer!r} of {self.spec.teacher_id} does not run while it encodes; choose one of its encoder"
            )
        return seen[-1].movedim(self.batch_axis, 0)

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:  # noqa: ARG002 (states have no noise)
        """Return the states."""
        return context

    def precise(self) -> AbstractContextManager[None]:
        """Compute in float32."""
        return self.teacher.precise()
