"""The least that can be a teacher: a function of batch, noised chunk, tau and whether it may see more."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from pipelines.residuals.fingerprints import code_digest, module_tensors, tensors_digest
from pipelines.residuals.teacher import Batch, Needs, Teacher, TeacherSpec
from schemas.errors import UsageError
from transforms.flow import Convention

type Function = Callable[..., Any]


@dataclass(frozen=True)
class CallableTeacher:
    """A function as a teacher; see `from_callable`."""

    function: Function
    spec: TeacherSpec
    needs: Needs
    preparation: Callable[[Batch], Mapping[str, Any]] | None = None

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Apply the given preparation; without one, the batch is the model's own already."""
        ready = dict(batch) if self.preparation is None else dict(self.preparation(batch))
        if "action" in ready and "action_is_pad" not in ready:
            import torch

            ready["action_is_pad"] = torch.zeros(ready["action"].shape[:2], dtype=torch.bool)
        return ready

    def encode(self, ready: Batch, aux: Mapping[str, Any]) -> Any:
        """Keep the batch; a function has nothing to share between draws."""
        return {**ready, **{f"noise_{k}" if not k.startswith("tau_") else k: v for k, v in aux.items()}}

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:
        """Ask the function in its own convention and answer canonically."""
        if self.spec.kind != "flow":
            return self.function(context, a_tau, tau, privileged)
        t = tau.reshape(-1, 1, 1)
        x, time = self.spec.convention.to_native(a_tau, t)
        answer = self.function(context, x, time.reshape(-1), privileged)
        return self.spec.convention.to_canonical(answer, x[..., : answer.shape[-1]], time)[..., : self.spec.action_dim]

    def precise(self) -> AbstractContextManager[None]:
        """Change nothing: a function computes as it computes."""
        return nullcontext()


def from_callable(
    function: Function,
    spec: TeacherSpec,
    *,
    weights: Any = None,
    prepare: Callable[[Batch], Mapping[str, Any]] | None = None,
    needs: Needs | None = None,
) -> Teacher:
    """Make a teacher of `function(batch, a_tau, tau, privileged) -> [B, H, A]`.

    Args:
        function: answers in the convention that `spec` states; `a_tau` and `tau` come in that convention, too.
        spec: what it is. Hashes that are empty are filled in: code from the source of `function` and `prepare`.
        weights: what it computes with: a torch module, or tensors by name; `{}` says that there is nothing but its code.
        prepare: the function's own batch from the loader's, normalised; None: the loader's as it is.
        needs: what it reads; None: everything, in the mixture's windows.

    Raises:
        UsageError: neither `spec.weights_sha` nor `weights` says what it computes with: a cache could not notice a change.
    """
    if not spec.weights_sha and weights is None:
        raise UsageError(
            f"teacher {spec.teacher_id}: pass weights=module (or tensors by name, {{}} for none), so that its cache notices changes"
        )
    if not spec.weights_sha:
        spec = replace(spec, weights_sha=tensors_digest(weights if isinstance(weights, Mapping) else module_tensors(weights)))
    if not spec.code_sha:
        spec = replace(spec, code_sha=code_digest(*(f for f in (function, prepare) if f is not None), Convention))
    return CallableTeacher(function, spec, needs or Needs(), prepare)
