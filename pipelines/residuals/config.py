"""What to cache, in one frozen dataclass: the mode, the draws, and what of them is stored."""

from dataclasses import dataclass
from typing import Literal, get_args

from schemas.errors import UsageError
from schemas.residuals import Mode
from transforms.draws import parse
from transforms.flow import Kind

MODE_KINDS: dict[Mode, tuple[Kind, ...]] = {
    "frozen_pair": ("flow", "ddpm_eps", "ddpm_sample"),
    "frozen_teacher_live_student": ("flow", "ddpm_eps", "ddpm_sample"),
    "online": ("flow", "ddpm_eps", "ddpm_sample"),
    "regression": ("regression",),
    "logits": ("categorical",),
    "hidden": ("hidden",),
    "error": ("flow", "regression"),
}
DRAWN: tuple[Mode, ...] = ("frozen_pair", "frozen_teacher_live_student", "online")
Compute = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """One cache.

    Attributes:
        mode: what is stored, see docs/residuals.md.
        draws: K, noised chunks per frame; modes without tau have one.
        video_draws: Kv, how many of them draw the privileged stream's noise anew; K / Kv share one encoding.
        seed: root of every draw.
        tau: sampler of the action's tau; empty: the teacher's own.
        future_noise: tau of the privileged stream: `train_schedule`, `clean`, or a sampler such as `fixed(0.5)` or `grid(0,0.5)`.
        batch: frames that run together. Batches never cross episodes, so that an episode's rows depend on nothing else.
        stride: cache every n-th frame.
        store_noise: keep the action's noise, which the seed gives anyway.
        top_k: kept logits per position.
        context: keys of the prepared batch kept once per frame, for adapters that see more than the velocity.
        shuffle_future: give every frame the privileged inputs of another one: the control that a useful cache must beat.
        compute: `bfloat16` runs under autocast, but for `logits`, `hidden` and `error`; a residual's signal-to-noise ratio against
            float32 is measured, and below 20 dB refused.
        steps: Euler steps where a flow must be sampled (mode `error`).
        unit_rows: most rows of one file.
        audit_share: rows whose float32 values are kept.
    """

    mode: Mode = "frozen_pair"
    draws: int = 4
    video_draws: int = 1
    seed: int = 0
    tau: str = ""
    future_noise: str = "train_schedule"
    batch: int = 64
    stride: int = 1
    store_noise: bool = False
    top_k: int = 32
    context: tuple[str, ...] = ()
    shuffle_future: bool = False
    compute: Compute = "float32"
    steps: int = 10
    unit_rows: int = 65_536
    audit_share: float = 0.01

    def __post_init__(self) -> None:
        if self.mode not in MODE_KINDS:
            raise UsageError(f"mode {self.mode!r} is unknown; choose from {', '.join(MODE_KINDS)}")
        if self.compute not in get_args(Compute):
            raise UsageError(f"compute {self.compute!r} is unknown; choose from {', '.join(get_args(Compute))}")
        for name in ("draws", "video_draws", "batch", "stride", "top_k", "steps", "unit_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.mode not in DRAWN and self.draws != 1:
            object.__setattr__(self, "draws", 1)
        if self.draws > 32_767 or self.draws % self.video_draws:
            raise UsageError(f"draws={self.draws} must be at most 32767 and a multiple of video_draws={self.video_draws}")
        if not 0 <= self.audit_share <= 1:
            raise UsageError(f"audit_share is {self.audit_share}; it is a share from 0 to 1")
        if self.tau:
            parse(self.tau)
        if self.future_noise not in ("train_schedule", "clean"):
            parse(self.future_noise)
        if self.store_noise and self.mode not in DRAWN:
            raise UsageError(f"mode {self.mode} has no noise to store")

    def check_kind(self, teacher: str, kind: Kind) -> None:
        """Refuse a teacher whose answers this mode cannot store.

        Raises:
            UsageError: it names the modes that can.
        """
        if kind not in MODE_KINDS[self.mode]:
            fits = ", ".join(m for m, kinds in MODE_KINDS.items() if kind in kinds)
            raise UsageError(f"teacher {teacher} gives {kind}, which mode {self.mode} cannot store; use {fits}")

    def needs_both(self) -> bool:
        """Tell whether teacher and student must both answer."""
        return self.mode in ("frozen_pair", "regression")
