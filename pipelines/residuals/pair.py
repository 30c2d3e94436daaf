"""Two models as one teacher: the privileged one and the student, refused where their difference would mean nothing."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pipelines.residuals.fingerprints import digest_of
from pipelines.residuals.teacher import Batch, Needs, Teacher, TeacherSpec
from schemas.errors import UsageError


@dataclass(frozen=True)
class TeacherPair:
    """A teacher and a student of the same horizon, action space, normaliser and kind.

    Raises:
        UsageError: they differ in one of these: a residual across different units is no residual.
    """

    teacher: Teacher
    student: Teacher

    def __post_init__(self) -> None:
        check_pair(self.teacher.spec, self.student.spec)

    @property
    def spec(self) -> TeacherSpec:
        """The teacher's, with both models' hashes."""
        a, b = self.teacher.spec, self.student.spec
        both = {
            name: digest_of([getattr(a, name), getattr(b, name)])
            for name in ("weights_sha", "config_sha", "code_sha", "preproc_sha")
        }
        return replace(
            a, **both, mask_id=f"pair({a.mask_id or a.teacher_id},{b.mask_id or b.teacher_id})", dtype=f"{a.dtype}+{b.dtype}",
            attention=f"{a.attention}+{b.attention}", libraries=tuple(sorted({*a.libraries, *b.libraries})),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """What either of them reads.

        Raises:
            UsageError: they want different windows of the same key.
        """
        a, b = self.teacher.needs, self.student.needs
        keys = None if a.keys is None or b.keys is None else tuple(dict.fromkeys((*a.keys, *b.keys)))
        for key in (a.deltas or {}).keys() & (b.deltas or {}).keys():
            if (a.deltas or {})[key] != (b.deltas or {})[key]:
                raise UsageError(
                    f"teacher and student read different windows of {key}: {(a.deltas or {})[key]} and {(b.deltas or {})[key]}"
                )
        if a.image_size != b.image_size:
            raise UsageError(f"teacher and student read pictures of {a.image_size} and {b.image_size}; give both one image_size")
        deltas = None if a.deltas is None and b.deltas is None else {**(b.deltas or {}), **(a.deltas or {})}
        return Needs(keys, deltas, a.image_size)

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Prepare for both; the action must come out the same.

        Raises:
            UsageError: their preprocessing gives different actions although their normalisers claim to be equal.
        """
        import torch

        a, b = self.teacher.prepare(dict(batch)), self.student.prepare(dict(batch))
        if "action" in a and "action" in b and not torch.equal(a["action"].cpu(), b["action"].cpu()):
            worst = float((a["action"].cpu() - b["action"].cpu()).abs().max())
            raise UsageError(
                f"teacher and student see the same action differently (by up to {worst:.3g}); give both one preprocessing"
            )
        shared = {k: v for k, v in a.items() if k in ("action", "action_is_pad", *self.teacher.spec.privileged)}
        return {**shared, "teacher": a, "student": b}

    def encode(self, ready: Batch, aux: Mapping[str, Any]) -> Any:
        """Encode with both; what was changed at the top of `ready` since (a swapped future) goes to the teacher."""
        mine = {**ready["teacher"], **{k: ready[k] for k in self.teacher.spec.privileged}}
        return self.teacher.encode(mine, aux), self.student.encode(ready["student"], aux)

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:
        """Ask the teacher or the student."""
        model, own = (self.teacher, context[0]) if privileged else (self.student, context[1])
        return model.velocity(own, a_tau, tau, privileged=privileged)

    @contextmanager
    def precise(self) -> Generator[None]:
        """Compute both in float32."""
        with self.teacher.precise(), self.student.precise():
            yield


def check_pair(teacher: TeacherSpec, student: TeacherSpec) -> None:
    """Refuse a pair whose residual would be meaningless.

    Raises:
        UsageError: it names what differs.
    """
    wanted = {
        "horizon": "horizons", "action_dim": "numbers of action scalars", "padded_dim": "padded action widths", "kind": "kinds",
        "norm_sha": "normalisers", "action_space": "action spaces", "control_hz": "action rates",
    }  # fmt: skip
    for name, what in wanted.items():
        a, b = getattr(teacher, name), getattr(student, name)
        if a != b:
            raise UsageError(
                f"teacher {teacher.teacher_id} and student {student.teacher_id} have different {what} ({a!r} and {b!r}); their "
                "difference would mean nothing. Train them on the same action space with the same statistics"
            )
    if student.privileged:
        raise UsageError(f"the student {student.teacher_id} reads {', '.join(student.privileged)}, which it will not have")
    if teacher.aux_noise and student.aux_noise and dict(teacher.aux_noise) != dict(student.aux_noise):
        raise UsageError("teacher and student draw noise of different shapes for the same stream; they cannot share it")
