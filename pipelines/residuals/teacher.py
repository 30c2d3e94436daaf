"""What a teacher is: a policy that answers, for a noised action chunk, in which direction the clean one lies.

One interface for one model seen through two masks (PFD), for two models, and for any callable. A teacher says everything that its
answers depend on in its `TeacherSpec`; caches are keyed by it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.errors import UsageError
from schemas.ids import is_slug
from transforms.flow import Convention, Kind

type Batch = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """Everything the answers of a teacher depend on, besides the data.

    Attributes:
        teacher_id: a slug; the folder of its caches.
        convention: how its own denoiser is read; `velocity` answers canonically whatever it says.
        horizon: H, actions per chunk.
        action_dim: A, scalars per action that mean something.
        padded_dim: scalars the network takes and gives (pi0: 32); 0: the same as `action_dim`.
        privileged: keys of a prepared batch that the student must not see; empty: the teacher knows nothing more.
        aux_noise: per name of a noise of its own (`video`), its shape per sample.
        aux_sampler: per such name, the tau that training draws for it.
        mask_id: what is opened to the teacher and closed to the student.
        weights_sha: of all tensors, frozen parts included.
        config_sha: of its configuration.
        code_sha: of the adapter and the policy.
        preproc_sha: of the preprocessing pipeline and the tokenizer's files.
        norm_sha: of the statistics that normalise state and action.
        dtype: in which the network runs.
        attention: implementation of attention (`eager`, `sdpa`, `flash`).
        action_space: `Contract.action_space` it was trained on; empty: it does not say.
        control_hz: rate of its actions; None: it does not say.
        libraries: packages whose version decides its last bits, besides torch.
    """

    teacher_id: str
    convention: Convention
    horizon: int
    action_dim: int
    padded_dim: int = 0
    privileged: tuple[str, ...] = ()
    aux_noise: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    aux_sampler: Mapping[str, str] = field(default_factory=dict[str, str])
    mask_id: str = ""
    weights_sha: str = ""
    config_sha: str = ""
    code_sha: str = ""
    preproc_sha: str = ""
    norm_sha: str = ""
    dtype: str = "float32"
    attention: str = "eager"
    action_space: str = ""
    control_hz: float | None = None
    libraries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_slug(self.teacher_id):
            raise UsageError(f"a teacher is called {self.teacher_id!r}; use lower-case letters, digits, '.', '_' and '-'")
        if self.horizon < 1 or self.action_dim < 1 or (self.padded_dim and self.padded_dim < self.action_dim):
            raise UsageError(
                f"teacher {self.teacher_id}: horizon {self.horizon}, action_dim {self.action_dim}, padded_dim {self.padded_dim}; "
                "each is at least 1, and padding only adds"
            )

    @property
    def kind(self) -> Kind:
        """What it predicts."""
        return self.convention.kind

    @property
    def width(self) -> int:
        """Scalars per action of the network itself."""
        return self.padded_dim or self.action_dim


@dataclass(frozen=True, slots=True)
class Needs:
    """What a teacher reads of a step.

    Attributes:
        keys: features and cameras; None: everything that is not privileged.
        deltas: per key, the frames of its window relative to the step, at the dataset's own control rate, as LeRobot's policies
            state them; None: the mixture's windows.
        image_size: (height, width) pictures are fitted into; None: as stored.
    """

    keys: tuple[str, ...] | None = None
    deltas: Mapping[str, tuple[int, ...]] | None = None
    image_size: tuple[int, int] | None = None


class Teacher(Protocol):
    """A model behind one interface. Calls happen under `torch.no_grad`, with the model in evaluation mode."""

    @property
    def spec(self) -> TeacherSpec:
        """What it is."""
        ...

    @property
    def needs(self) -> Needs:
        """What it reads."""
        ...

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Return the model's own batch from the loader's.

        It holds `action` float32[B, H, A], normalised and unpadded, and `action_is_pad` bool[B, H] (neither is needed where no mode
        asks for actions), the keys that `spec.privileged` names, and whatever `encode` reads.
        """
        ...

    def encode(self, ready: Batch, aux: Mapping[str, Any]) -> Any:
        """Do what all draws of an observation share.

        Args:
            ready: what `prepare` returned.
            aux: per name of `spec.aux_noise` its noise float32[B, *shape], and `tau_<name>` float32[B].
        """
        ...

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:
        """Answer for noised chunks.

        Args:
            context: what `encode` returned.
            a_tau: float32[B, H, width].
            tau: float32[B], canonical.
            privileged: whether it may see what `spec.privileged` names.

        Returns:
            By kind: `flow` the canonical velocity, `ddpm_*` the network's own prediction, `regression` the chunk itself, each
            [B, H, A] in normalised units, or with the padding behind it; `categorical` logits [B, T, V]; `hidden` states [B, ...].
        """
        ...

    def precise(self) -> AbstractContextManager[None]:
        """Compute in float32 inside the block, whatever `spec.dtype` says."""
        ...
